"""Arrays of encoded elements that the object store holds compressed where that makes them much smaller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_SMALLEST = 16 << 10
_SAMPLE = 16 << 10
_WORTH = 0.6
# faster to compress than the network or a disk takes what it saves, and to decompress than memory takes a few copies
_CODEC = "lz4_raw"


@dataclass(frozen=True)
class PackedArray:
    """LZ4 of an array of `nbytes` bytes."""

    nbytes: int
    data: Bytes

    def __len__(self) -> int:
        return self.nbytes


def pack(data: bytes | Bytes) -> Bytes | PackedArray:
    """The bytes as an array, compressed where the first 16 KB shrink to 60 % or less."""
    plain = np.frombuffer(data, dtype=np.uint8)
    if len(data) < _SMALLEST or len(_compressed(plain[:_SAMPLE])) > _WORTH * _SAMPLE:
        return plain
    return PackedArray(len(data), np.frombuffer(_compressed(plain), dtype=np.uint8))


def unpack(array: Bytes | PackedArray) -> Bytes:
    """The bytes that were packed."""
    if not isinstance(array, PackedArray):
        return array
    return np.frombuffer(pa.decompress(array.data, array.nbytes, _CODEC, asbytes=True), dtype=np.uint8)


def _compressed(array: Bytes) -> bytes:
    packed: bytes = pa.compress(array, _CODEC, asbytes=True)
    return packed
