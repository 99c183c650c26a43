"""Reshuffle without a shuffle: a stage ends, its blocks are dealt out anew, and no key is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from beam_pipeline.runner.beam_internals import beam_runner_api_pb2, bundle_processor, common_urns, translations

RESHUFFLE = "ray:reshuffle:v1"


def mark_reshuffles(proto: Any) -> None:
    """Mark the reshuffles whose input and output have one coder and windowing, which is nearly all."""
    pcollections = proto.components.pcollections
    for transform in proto.components.transforms.values():
        known = transform.spec.urn == common_urns.composites.RESHUFFLE.urn
        if known and len(transform.inputs) == 1 and len(transform.outputs) == 1:
            before = pcollections[next(iter(transform.inputs.values()))]
            behind = pcollections[next(iter(transform.outputs.values()))]
            if (before.coder_id, _window_coder(proto, before)) == (behind.coder_id, _window_coder(proto, behind)):
                transform.spec.urn = RESHUFFLE


def _window_coder(proto: Any, pcollection: Any) -> str:
    return str(proto.components.windowing_strategies[pcollection.windowing_strategy_id].window_coder_id)


def expand_reshuffles(stages: Iterable[Any], context: Any) -> Iterator[Any]:
    """Make of every marked reshuffle a write and a read: the blocks are dealt out anew, no key is drawn."""
    for stage in stages:
        transform = stage.transforms[0]
        if transform.spec.urn != RESHUFFLE:
            yield stage
            continue
        for pcoll in (*transform.inputs.values(), *transform.outputs.values()):
            context.length_prefix_pcoll_coders(pcoll)
        buffer = translations.create_buffer_id(stage.name)
        write = translations.Stage(
            f"{transform.unique_name}/Write",
            [_io(f"{transform.unique_name}/Write", bundle_processor.DATA_OUTPUT_URN, buffer, inputs=transform.inputs)],
            downstream_side_inputs=frozenset(),
            must_follow=stage.must_follow,
        )
        yield write
        yield translations.Stage(
            f"{transform.unique_name}/Read",
            [_io(f"{transform.unique_name}/Read", bundle_processor.DATA_INPUT_URN, buffer, outputs=transform.outputs)],
            downstream_side_inputs=stage.downstream_side_inputs,
            must_follow=frozenset([write]) | stage.must_follow,
        )


def _io(name: str, urn: str, buffer: bytes, **ports: Any) -> Any:
    return beam_runner_api_pb2.PTransform(
        unique_name=name, spec=beam_runner_api_pb2.FunctionSpec(urn=urn, payload=buffer), **ports
    )
