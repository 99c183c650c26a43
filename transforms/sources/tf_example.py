"""tf.train.Example on the wire, read and written without TensorFlow or protobuf.

Example { Features features = 1 }; Features { map<string, Feature> feature = 1 }; Feature is one of
BytesList (1), FloatList (2), Int64List (3), each `repeated value = 1`. (tensorflow/core/example/feature.proto)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Values = list[memoryview] | NDArray[np.float32] | NDArray[np.int64]
"""What a feature holds: views of a BytesList's values, a FloatList (read-only view), or an Int64List."""


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _message(field: int, body: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(body)) + body


def _encode_varints(values: NDArray[np.int64]) -> bytes:
    """(N,) int64 as packed varints; a negative value takes ten bytes, as in protobuf."""
    left = values.astype(np.uint64)
    groups = np.empty((len(values), 10), np.uint8)
    for column in range(10):
        groups[:, column] = (left & np.uint64(0x7F)).astype(np.uint8)
        left = left >> np.uint64(7)
    used = 10 - np.argmax(groups[:, ::-1] != 0, axis=1)
    used[~groups.any(axis=1)] = 1
    position = np.arange(10)
    groups[position < used[:, None] - 1] |= 0x80
    return groups[position < used[:, None]].tobytes()


def encode_example(features: Mapping[str, Sequence[bytes] | NDArray[np.generic]]) -> bytes:
    """A serialised tf.train.Example, keys sorted: floating arrays as FloatList, integers and bools as Int64List.

    Arrays of any shape are flattened in row order; a sequence of `bytes` becomes a BytesList.
    """
    entries = []
    for key in sorted(features):
        values = features[key]
        if not isinstance(values, np.ndarray):
            body = _message(1, b"".join(_message(1, bytes(item)) for item in values))
        elif values.dtype.kind == "f":
            body = _message(2, _message(1, values.astype("<f4").tobytes()))
        elif values.dtype.kind in "iub":
            body = _message(3, _message(1, _encode_varints(values.astype(np.int64).reshape(-1))))
        else:
            raise TypeError(f"feature {key!r} is an array of {values.dtype}; give floats, integers, bools or bytes")
        entries.append(_message(1, _message(1, key.encode()) + _message(2, body)))
    return _message(1, b"".join(entries))
