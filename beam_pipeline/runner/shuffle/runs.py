"""Runs: entries sorted by partition and key, as arrays that Ray's object store holds, and their merge."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from beam_pipeline.runner.packing import Bytes, PackedArray, pack, unpack

Fetch = Callable[[Any], "Run"]

# what Python keeps beside a value while a bundle writes, and what a run keeps beside an entry
_VALUE_OVERHEAD = 48
_ENTRY_OVERHEAD = 24
_LARGE_BYTES = 256 << 10


@dataclass(frozen=True)
class RunInfo:
    """What the driver knows of a run.

    `offsets`: (P + 1,) bytes, unpacked, that lie before each partition and in all. `digest` tells runs with other keys
    or values apart.
    """

    elements: int
    offsets: tuple[int, ...]
    digest: int = 0

    @property
    def nbytes(self) -> int:
        return self.offsets[-1]

    def nbytes_of(self, first: int, last: int) -> int:
        """Bytes of the partitions `[first, last)`, above 0 wherever there is an entry."""
        return self.offsets[last] - self.offsets[first]


@dataclass(frozen=True)
class Run:
    """Sorted entries; an entry is a key with the encoded values that one bundle wrote for it, end to end.

    `starts`: (P + 1,) first entry of each partition. `keys` holds all encoded keys, `key_ends` (E,) where each ends.
    `counts`: (E,) values of an entry. `value_ends`: (E,) where each entry's values end, over all of `values`, whose
    arrays begin at `array_starts` and end between entries. A merged run may hold one key in several entries.
    """

    info: RunInfo
    starts: tuple[int, ...]
    keys: Bytes
    key_ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    value_ends: NDArray[np.int64]
    values: tuple[Bytes | PackedArray, ...]
    array_starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an open run; `values` is a view into the object store where it is not packed there."""

    key: bytes
    count: int
    values: Bytes


class RunBuffer:
    """Collects what a bundle writes to a shuffle, by key; `nbytes` counts the bookkeeping of small values too."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._table: dict[bytes, list[bytes]] = {}
        self.nbytes = 0
        self.elements = 0

    def add(self, key: bytes, value: bytes) -> None:
        """One encoded value under an encoded key."""
        values = self._table.get(key)
        if values is None:
            self._table[key] = [value]
            self.nbytes += len(key)
        else:
            values.append(value)
        self.elements += 1
        self.nbytes += len(value) + _VALUE_OVERHEAD

    def finish(self) -> Run:
        """The run as written so far; the buffer is not to be used again."""
        partitions = self._partitions
        entries = sorted((partition_of(key, partitions), key) for key in self._table)
        table, self._table = self._table, {}
        builder = _RunBuilder(partitions)
        for partition, key in entries:
            values = table.pop(key)
            builder.add(partition, key, len(values), values)
        return builder.finish()


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of an encoded key: the same in every process and on every machine."""
    return int(xxhash.xxh3_64_intdigest(key) % partitions)


def open_entries(run: Run, first: int, last: int, after_key: bytes | None = None) -> Iterator[tuple[int, Entry]]:
    """(partition, entry) of the partitions `[first, last)` in order, in the first one only keys above `after_key`."""
    begin, end = run.starts[first], run.starts[last]
    if begin == end:
        return
    base = int(run.key_ends[begin - 1]) if begin else 0
    ends = [base, *run.key_ends[begin:end].tolist()]
    blob = run.keys[base : ends[-1]].tobytes()
    keys = [blob[a - base : b - base] for a, b in itertools.pairwise(ends)]
    skip = bisect.bisect_right(keys, after_key, 0, run.starts[first + 1] - begin) if after_key is not None else 0
    counts = run.counts[begin:end].tolist()
    value_ends = [int(run.value_ends[begin - 1]) if begin else 0, *run.value_ends[begin:end].tolist()]
    borders = [run.starts[p + 1] - begin for p in range(first, last)]
    values = _Values(run)
    partition = first
    for index in range(skip, end - begin):
        while index >= borders[partition - first]:
            partition += 1
        yield partition, Entry(keys[index], counts[index], values.between(value_ends[index], value_ends[index + 1]))


def merge_runs(runs: Sequence[Sequence[Any]], partitions: range, block_bytes: int, fetch: Fetch) -> Iterator[Run]:
    """Merge runs, each a sequence of blocks that follow each other, into the blocks of one; blocks end between entries.

    Equal keys keep their entries apart, in the order of the runs, so that no entry grows beyond what one bundle wrote.
    """
    builder = _RunBuilder(partitions.stop)
    for partition, entry in merged_entries(runs, partitions.start, partitions.stop, None, fetch):
        builder.add(partition, entry.key, entry.count, [entry.values])
        if builder.nbytes >= block_bytes:
            yield builder.finish()
            builder = _RunBuilder(partitions.stop)
    if builder.nbytes:
        yield builder.finish()


def merged_entries(
    runs: Iterable[Sequence[Any]], first: int, last: int, after_key: bytes | None, fetch: Fetch
) -> Iterator[tuple[int, Entry]]:
    """(partition, entry) over all runs by partition, key and the runs' order; a block of each run is open at a time."""

    def stream(number: int, blocks: Sequence[Any]) -> Iterator[tuple[int, bytes, int, Entry]]:
        for block in blocks:
            for partition, entry in open_entries(fetch(block), first, last, after_key):
                yield partition, entry.key, number, entry

    # equal keys come in the order of the runs; heapq.merge itself keeps the entries of one run in theirs
    ordered = heapq.merge(*(stream(n, blocks) for n, blocks in enumerate(runs)), key=_order)
    return ((partition, entry) for partition, _, _, entry in ordered)


def entries_of_key(runs: Iterable[Sequence[Any]], partition: int, key: bytes, fetch: Fetch) -> Iterator[Entry]:
    """The entries of one key over all runs, in the runs' order, one block open at a time."""
    for blocks in runs:
        for block in blocks:
            for _, entry in open_entries(fetch(block), partition, partition + 1):
                if entry.key == key:
                    yield entry
                elif entry.key > key:
                    break


def _order(item: tuple[int, bytes, int, Entry]) -> tuple[int, bytes, int]:
    return item[0], item[1], item[2]


class _Values:
    """Slices of a run's values, asked for in order: the array that was opened last is kept."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._base, self._array = 0, np.empty(0, np.uint8)

    def between(self, start: int, stop: int) -> Bytes:
        if not self._base <= start <= stop <= self._base + len(self._array):
            place = bisect.bisect_right(self._run.array_starts, start) - 1
            self._base, self._array = self._run.array_starts[place], unpack(self._run.values[place])
        return self._array[start - self._base : stop - self._base]


class _RunBuilder:
    """Puts sorted entries together. Small ones share arrays; a large one has an array of its own."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._counts_by_partition = [0] * partitions
        self._bytes_by_partition = [0] * partitions
        self._keys: list[bytes] = []
        self._counts: list[int] = []
        self._lengths: list[int] = []
        self._small: list[Any] = []
        self._small_bytes = 0
        self._arrays: list[Bytes | PackedArray] = []
        self._digest = xxhash.xxh3_64()
        self.nbytes = 0

    def add(self, partition: int, key: bytes, count: int, values: Sequence[Any]) -> None:
        length = sum(map(len, values)) if len(values) > 1 else len(values[0])
        self._counts_by_partition[partition] += 1
        # an entry counts even where key and values encode to nothing
        nbytes = length + len(key) + _ENTRY_OVERHEAD
        self._bytes_by_partition[partition] += nbytes
        self._keys.append(key)
        self._counts.append(count)
        self._lengths.append(length)
        self.nbytes += nbytes
        if length >= _LARGE_BYTES:
            self._seal()
            self._append(values[0] if len(values) == 1 else b"".join(values))
        else:
            self._small.extend(values)
            self._small_bytes += length
            # a reader of one partition unpacks little of the others
            if self._small_bytes >= _LARGE_BYTES:
                self._seal()

    def finish(self) -> Run:
        self._seal()
        offsets, starts = [0], [0]
        for nbytes, entries in zip(self._bytes_by_partition, self._counts_by_partition, strict=True):
            offsets.append(offsets[-1] + nbytes)
            starts.append(starts[-1] + entries)
        array_starts = [0]
        for array in self._arrays[:-1]:
            array_starts.append(array_starts[-1] + len(array))
        keys = np.frombuffer(b"".join(self._keys), dtype=np.uint8)
        key_ends = np.cumsum([len(key) for key in self._keys], dtype=np.int64)
        counts = np.asarray(self._counts, dtype=np.int64)
        value_ends = np.cumsum(self._lengths, dtype=np.int64)
        for column in (keys, key_ends, counts, value_ends):
            self._digest.update(column.tobytes())
        return Run(
            info=RunInfo(sum(self._counts), tuple(offsets), self._digest.intdigest()),
            starts=tuple(starts),
            keys=keys,
            key_ends=key_ends,
            counts=counts,
            value_ends=value_ends,
            values=tuple(self._arrays),
            array_starts=tuple(array_starts),
        )

    def _seal(self) -> None:
        if self._small_bytes:
            self._append(b"".join(self._small))
        self._small, self._small_bytes = [], 0

    def _append(self, values: Any) -> None:
        self._digest.update(memoryview(values))
        self._arrays.append(pack(values))
