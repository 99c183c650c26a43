"""Side inputs: an index of all their values, made once and shared through Ray's object store, and its look-ups."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from beam_pipeline.runner.beam_internals import coder_impl, coders, common_urns
from beam_pipeline.runner.packing import Bytes

_ITERABLE = common_urns.side_inputs.ITERABLE.urn
_MULTIMAP = common_urns.side_inputs.MULTIMAP.urn
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SideInputIndex:
    """The values of a side input in G groups: one for each window or, for a multimap, for each window and key.

    Everything large is an array, which Ray's workers share without a copy, however many groups there are.
    `windows`: for each encoded window its groups `[first, last)`. `hashes` (G,): of the encoded keys, ascending within
    a window. `key_ends` (G,): positions in `keys`. `value_ends` (G,): positions in the values, which are all chunks one
    after another; a chunk ends at `chunk_ends` (C,), which is the end of a value too. `counts` (G,): how many values.
    """

    windows: Mapping[bytes, tuple[int, int]]
    hashes: NDArray[np.uint64]
    keys: Bytes
    key_ends: NDArray[np.int64]
    value_ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    chunks: tuple[Bytes, ...]
    chunk_ends: NDArray[np.int64]


def build_side_input_index(chunks: Iterable[bytes], coder: Any, access_urn: str) -> SideInputIndex:
    """Index all elements of a PCollection, given as chunks that end between elements.

    `coder` is that of the windowed elements. An element in several windows is in the group of each. Keys are compared
    by their encoding. Raises ValueError for an access pattern other than iterable and multimap, and where a multimap's
    elements are not pairs.
    """
    if access_urn not in (_ITERABLE, _MULTIMAP):
        raise ValueError(f"side input with access pattern {access_urn!r}; known: {_ITERABLE} and {_MULTIMAP}")
    element_coder = coder.wrapped_value_coder
    if access_urn == _MULTIMAP and not isinstance(element_coder, coders.TupleCoder):
        raise ValueError(
            f"a side input read as a multimap has the coder {element_coder}, not one of pairs: "
            "declare its element type, as in .with_output_types(tuple[K, V])"
        )
    groups: dict[bytes, dict[bytes, _Group]] = {}
    for encoded_window, key, value in _values(chunks, coder, access_urn == _MULTIMAP):
        keys = groups.setdefault(encoded_window, {})
        group = keys.get(key)
        if group is None:
            group = keys[key] = _Group()
        group.add(value)
    return _index(groups)


class SideInputReader:
    """Looks values up in an index. They come encoded, in chunks of about 4 MB that end between values."""

    def __init__(self, index: SideInputIndex) -> None:
        self._index = index

    def iterable(self, window: bytes) -> Iterator[bytes]:
        """The values of an encoded window."""
        first, last = self._index.windows.get(window, (0, 0))
        return self._between(self._value_start(first), self._value_start(last))

    def values(self, window: bytes, key: bytes) -> Iterator[bytes]:
        """The values of an encoded key in a window."""
        group = self._find(window, key)
        return iter(()) if group is None else self._between(self._value_start(group), self._value_start(group + 1))

    def nbytes(self, window: bytes, key: bytes | None = None) -> int:
        """Size of a window's values, or of those of one key in it."""
        if key is None:
            first, last = self._index.windows.get(window, (0, 0))
        else:
            group = self._find(window, key)
            first, last = (0, 0) if group is None else (group, group + 1)
        return self._value_start(last) - self._value_start(first)

    def keys(self, window: bytes) -> Iterator[bytes]:
        """The encoded keys of a window."""
        for group in range(*self._index.windows.get(window, (0, 0))):
            yield self._key(group)

    def items(self, window: bytes) -> Iterator[bytes]:
        """The keys of a window, each with all its values: the encoding of KV<K, Iterable<V>>, one key a chunk."""
        for group in range(*self._index.windows.get(window, (0, 0))):
            values = self._between(self._value_start(group), self._value_start(group + 1))
            yield b"".join([self._key(group), struct.pack(">i", self._index.counts[group]), *values])

    def _find(self, window: bytes, key: bytes) -> int | None:
        first, last = self._index.windows.get(window, (0, 0))
        wanted = np.uint64(_hash(key))
        group = first + int(np.searchsorted(self._index.hashes[first:last], wanted))
        while group < last and self._index.hashes[group] == wanted:
            if self._key(group) == key:
                return group
            group += 1
        return None

    def _key(self, group: int) -> bytes:
        ends = self._index.key_ends
        return self._index.keys[ends[group - 1] if group else 0 : ends[group]].tobytes()

    def _value_start(self, group: int) -> int:
        return int(self._index.value_ends[group - 1]) if group else 0

    def _between(self, start: int, stop: int) -> Iterator[bytes]:
        ends = self._index.chunk_ends
        number = int(np.searchsorted(ends, start, side="right"))
        while start < stop:
            base, end = int(ends[number - 1]) if number else 0, min(stop, int(ends[number]))
            yield self._index.chunks[number][start - base : end - base].tobytes()
            start, number = end, number + 1


def _values(chunks: Iterable[bytes], coder: Any, multimap: bool) -> Iterator[tuple[bytes, bytes, memoryview]]:
    """Each value with an encoded window of it and, for a multimap, its encoded key (else an empty one)."""
    # what stands before the value: a windowed value whose value takes no byte
    header = coders.WindowedValueCoder(coders.SingletonCoder(None), coder.window_coder).get_impl()
    encode_window = coder.window_coder.get_impl().encode
    element_coder = coder.wrapped_value_coder
    key_impl = _framing(element_coder.key_coder()) if multimap else None
    value_impl = _framing(element_coder.value_coder() if multimap else element_coder)
    for chunk in chunks:
        stream, size, view = coder_impl.create_InputStream(chunk), len(chunk), memoryview(chunk)
        while stream.size() > 0:
            windows = header.decode_from_stream(stream, True).windows
            start = size - stream.size()
            key = b""
            if key_impl:
                key_impl.decode_from_stream(stream, True)
                start, key_start = size - stream.size(), start
                key = chunk[key_start:start]
            value_impl.decode_from_stream(stream, True)
            value = view[start : size - stream.size()]
            for window in windows:
                yield encode_window(window), key, value


def _framing(coder: Any) -> Any:
    """A coder that finds where an encoding ends: what carries its length need not be decoded."""
    return (coders.BytesCoder() if isinstance(coder, coders.coders.LengthPrefixCoder) else coder).get_impl()


class _Group:
    """The values of one group while the index is made."""

    __slots__ = ("chunks", "count", "open")

    def __init__(self) -> None:
        self.chunks: list[bytearray] = []
        self.count = 0
        self.open = bytearray()

    def add(self, value: memoryview) -> None:
        self.open += value
        self.count += 1
        if len(self.open) >= _CHUNK_BYTES:
            self.chunks.append(self.open)
            self.open = bytearray()


def _index(groups: dict[bytes, dict[bytes, _Group]]) -> SideInputIndex:
    """Put the groups one after another; each is taken out of `groups`, so that the values are not held twice."""
    windows: dict[bytes, tuple[int, int]] = {}
    hashes: list[int] = []
    keys = bytearray()
    key_ends: list[int] = []
    value_ends: list[int] = []
    counts: list[int] = []
    packed = _Packed()
    for window in sorted(groups):
        by_key = groups.pop(window)
        first = len(hashes)
        for key_hash, key in sorted((_hash(key), key) for key in by_key):
            group = by_key.pop(key)
            for chunk in (*group.chunks, group.open):
                packed.add(chunk)
            hashes.append(key_hash)
            keys += key
            key_ends.append(len(keys))
            value_ends.append(packed.nbytes)
            counts.append(group.count)
        windows[window] = (first, len(hashes))
    chunks = packed.finish()
    return SideInputIndex(
        windows=windows,
        hashes=np.array(hashes, dtype=np.uint64),
        keys=np.frombuffer(keys, dtype=np.uint8),
        key_ends=np.array(key_ends, dtype=np.int64),
        value_ends=np.array(value_ends, dtype=np.int64),
        counts=np.array(counts, dtype=np.int64),
        chunks=chunks,
        chunk_ends=np.cumsum([len(chunk) for chunk in chunks], dtype=np.int64),
    )


class _Packed:
    """Joins small groups into chunks; what is large becomes a chunk without a copy."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._chunks: list[Bytes] = []
        self._open = bytearray()

    def add(self, data: bytearray) -> None:
        self.nbytes += len(data)
        if len(data) >= _CHUNK_BYTES:
            self._close()
            self._chunks.append(np.frombuffer(data, dtype=np.uint8))
            return
        self._open += data
        if len(self._open) >= _CHUNK_BYTES:
            self._close()

    def finish(self) -> tuple[Bytes, ...]:
        self._close()
        return tuple(self._chunks)

    def _close(self) -> None:
        if self._open:
            self._chunks.append(np.frombuffer(self._open, dtype=np.uint8))
            self._open = bytearray()


def _hash(key: bytes) -> int:
    return int(xxhash.xxh3_64_intdigest(key))
