"""The map side of a shuffle: an operation of Beam's harness that writes keys and values to a run, not to a stream."""

from __future__ import annotations

import functools
import json
from typing import Any

from beam_pipeline.runner.beam_internals import bundle_processor, coders, common

SHUFFLE_WRITE_URN = "ray:shuffle_write:v1"


def shuffle_write_payload(coder_id: str, mode: str) -> bytes:
    """What the operation is told: the coder of its input, and what is written beside the key.

    `mode`: "value" writes values alone, "windowed" values with their time and windows, "element" whole elements.
    """
    return json.dumps({"coder_id": coder_id, "mode": mode}).encode()


def value_entry_coder(windowed_coder: Any) -> Any:
    """The coder of a value with its time and windows, from that of the windowed pair."""
    return coders.WindowedValueCoder(windowed_coder.wrapped_value_coder.value_coder(), windowed_coder.window_coder)


class _ShuffleWrite(bundle_processor.DataOutputOperation):
    """Hands every element's encoded key and value to the bundle's run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._encode_key = self.windowed_coder.wrapped_value_coder.key_coder().get_impl().encode_nested
        self._encode_value = self._value_impl().encode_nested

    def set_output_stream(self, output_stream: Any) -> None:
        self.output_stream = output_stream
        self._add = output_stream.run_buffer.add

    def _value_impl(self) -> Any:
        raise NotImplementedError


class _WriteValues(_ShuffleWrite):
    def _value_impl(self) -> Any:
        return self.windowed_coder.wrapped_value_coder.value_coder().get_impl()

    def process(self, windowed_value: Any) -> None:
        key, value = windowed_value.value
        self._add(self._encode_key(key), self._encode_value(value))


class _WriteWindowedValues(_ShuffleWrite):
    def _value_impl(self) -> Any:
        return value_entry_coder(self.windowed_coder).get_impl()

    def process(self, windowed_value: Any) -> None:
        key, value = windowed_value.value
        self._add(self._encode_key(key), self._encode_value(windowed_value.with_value(value)))


class _WriteElements(_ShuffleWrite):
    def _value_impl(self) -> Any:
        return self.windowed_coder_impl

    def process(self, windowed_value: Any) -> None:
        self._add(self._encode_key(windowed_value.value[0]), self._encode_value(windowed_value))


_OPERATIONS = {"value": _WriteValues, "windowed": _WriteWindowedValues, "element": _WriteElements}


@bundle_processor.BeamTransformFactory.register_urn(SHUFFLE_WRITE_URN, bytes)
def _create_shuffle_write(
    factory: Any, transform_id: str, transform_proto: Any, parameter: bytes, consumers: Any
) -> _ShuffleWrite:
    told = json.loads(parameter)
    return _OPERATIONS[told["mode"]](
        common.NameContext(transform_proto.unique_name, transform_id),
        transform_proto.unique_name,
        consumers,
        factory.counter_factory,
        factory.state_sampler,
        factory.get_coder(told["coder_id"]),
        transform_id=transform_id,
        data_channel_factory=functools.partial(factory.data_channel_factory.create_data_channel, None),
    )
