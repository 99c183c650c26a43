"""The state of one bundle: user state, side inputs, and the values of keys that are too many to lie in an element."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from beam_pipeline.runner.beam_internals import coder_impl, sdk_worker
from beam_pipeline.runner.worker.side_inputs import SideInputReader

_CHUNK_BYTES = 1 << 20
_KEPT_BYTES_EACH = 4 << 20
_KEPT_BYTES = 16 << 20
_DONE = sdk_worker._Future.done()


class BundleState(sdk_worker.CachingStateHandler):
    """Answers the state requests of Beam's bundle processor in the same process.

    A stateful bundle holds whole keys, so its state begins empty and ends with it. User state is kept encoded: what
    user code does to an object that it has read or written does not change it.
    """

    def __init__(self) -> None:
        self.begin("", {})

    def begin(self, bundle: str, side_inputs: Mapping[tuple[str, str], SideInputReader]) -> None:
        """Forget everything of the attempt before; `side_inputs` by (transform id, tag)."""
        self._bundle = bundle
        self._side_inputs = side_inputs
        self._bags: dict[bytes, list[bytes]] = {}
        self._ordered: dict[bytes, dict[int, list[bytes]]] = defaultdict(dict)
        self._sources: dict[bytes, Callable[[], Iterable[bytes]]] = {}
        self._observer: Callable[..., None] | None = None
        self._kept: dict[bytes, list[Any]] = {}
        self._kept_bytes = 0

    def provide(self, token: bytes, source: Callable[[], Iterable[bytes]]) -> None:
        """Answer requests for the runner's `token` with chunks of encoded values, which `source` gives anew each time.

        Chunks end between values; the next one is only asked for when the values before are read. The token is valid
        to the end of the bundle, as long as user code may keep an element.
        """
        self._sources[token] = source

    def observe(self, observer: Callable[..., None]) -> None:
        """Call `observer(chunk, is_encoded=True)` with every chunk of provided values that is read from now on."""
        self._observer = observer

    @contextmanager
    def process_instruction_id(self, bundle_id: str, cache_tokens: Iterable[Any]) -> Iterator[None]:
        """Nothing to switch: one bundle at a time."""
        yield

    def blocking_get(self, state_key: Any, coder: Any) -> Iterable[Any]:
        """The values of a state, decoded as they are asked for."""
        kind = state_key.WhichOneof("type")
        if kind == "bag_user_state":
            return _decoded(list(self._bags.get(state_key.SerializeToString(), ())), coder)
        if kind == "ordered_list_user_state":
            return _decoded(self._in_range(state_key.ordered_list_user_state), coder)
        if kind == "runner":
            return _decoded(self._observed(self._source(state_key.runner.key)()), coder)
        return self._side_input(kind, state_key, coder)

    def extend(self, state_key: Any, coder: Any, elements: Iterable[Any]) -> Any:
        """Append to a user state; an ordered list takes pairs of its sort key and a value."""
        kind = state_key.WhichOneof("type")
        if kind == "ordered_list_user_state":
            entries = self._ordered[_cell(state_key.ordered_list_user_state)]
            for element in elements:
                entries.setdefault(element[0], []).append(coder.encode_nested(element))
            return _DONE
        if kind != "bag_user_state":
            raise _unknown(kind, "written")
        chunks = self._bags.setdefault(state_key.SerializeToString(), [])
        stream = coder_impl.create_OutputStream()
        for element in elements:
            coder.encode_to_stream(element, stream, True)
            if stream.size() >= _CHUNK_BYTES:
                chunks.append(stream.get())
                stream = coder_impl.create_OutputStream()
        if stream.size():
            chunks.append(stream.get())
        return _DONE

    def clear(self, state_key: Any) -> Any:
        """Empty a user state, or the range of an ordered list that the key names."""
        kind = state_key.WhichOneof("type")
        if kind == "bag_user_state":
            self._bags.pop(state_key.SerializeToString(), None)
        elif kind == "ordered_list_user_state":
            wanted = state_key.ordered_list_user_state
            entries = self._ordered[_cell(wanted)]
            for sort_key in [k for k in entries if wanted.range.start <= k < wanted.range.end]:
                del entries[sort_key]
        else:
            raise _unknown(kind, "cleared")
        return _DONE

    def done(self) -> None:
        """Nothing is open."""

    def _in_range(self, wanted: Any) -> list[bytes]:
        entries = self._ordered[_cell(wanted)]
        inside = sorted(k for k in entries if wanted.range.start <= k < wanted.range.end)
        return [encoded for k in inside for encoded in entries[k]]

    def _observed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if self._observer is not None:
                self._observer(chunk, is_encoded=True)
            yield chunk

    def _source(self, token: bytes) -> Callable[[], Iterable[bytes]]:
        source = self._sources.get(token)
        if source is None:
            raise LookupError(
                f"bundle {self._bundle}: the grouped values {token!r} are gone. They can be iterated only in the "
                "bundle that they came with: keep list(values) where they are needed later"
            )
        return source

    def _side_input(self, kind: str, state_key: Any, coder: Any) -> Iterable[Any]:
        if not kind.endswith("_side_input"):
            raise _unknown(kind, "read")
        wanted = getattr(state_key, kind)
        reader = self._side_inputs.get((wanted.transform_id, wanted.side_input_id))
        if reader is None:
            known = ", ".join(f"{transform}:{tag}" for transform, tag in self._side_inputs) or "none"
            raise LookupError(
                f"bundle {self._bundle}: {wanted.transform_id!r} has no side input {wanted.side_input_id!r}; "
                f"known: {known}"
            )
        if kind == "multimap_keys_values_side_input":
            return _decoded(reader.items(wanted.window), coder)
        if kind == "multimap_keys_side_input":
            return _decoded(reader.keys(wanted.window), coder)
        place = state_key.SerializeToString()
        if place in self._kept:
            return self._kept[place]
        if kind == "iterable_side_input":
            chunks, nbytes = reader.iterable(wanted.window), reader.nbytes(wanted.window)
        else:
            chunks, nbytes = reader.values(wanted.window, wanted.key), reader.nbytes(wanted.window, wanted.key)
        values = _decoded(chunks, coder)
        # a side input is often iterated anew for every element: what is small is decoded once
        if nbytes > _KEPT_BYTES_EACH or self._kept_bytes + nbytes > _KEPT_BYTES:
            return values
        self._kept_bytes += nbytes
        self._kept[place] = list(values)
        return self._kept[place]


def _decoded(chunks: Iterable[bytes], coder: Any) -> Iterator[Any]:
    for chunk in chunks:
        stream = coder_impl.create_InputStream(chunk)
        while stream.size() > 0:
            yield coder.decode_from_stream(stream, True)


def _cell(state: Any) -> bytes:
    """Identity of an ordered list: its key without the range that a request may name."""
    cell = type(state)(
        transform_id=state.transform_id, user_state_id=state.user_state_id, window=state.window, key=state.key
    )
    return bytes(cell.SerializeToString())


def _unknown(kind: str, done: str) -> NotImplementedError:
    return NotImplementedError(f"state of the kind {kind!r} was to be {done}, which Beam's Python harness never asks")
