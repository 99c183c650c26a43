"""RLDS records read with protobuf itself: none of the project's readers takes part."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.factories import EXAMPLE, masked_crc

Record = Mapping[str, "np.ndarray | list[bytes]"]


def records(path: Path) -> list[Record]:
    """Every Example of a TFRecord file, both checksums held to."""
    data, out, at = path.read_bytes(), [], 0
    while at < len(data):
        head, (length,) = data[at : at + 8], struct.unpack_from("<Q", data, at)
        payload = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 8)[0] == masked_crc(head)
        assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked_crc(payload)
        out.append(_features(payload))
        at += 16 + length
    return out


def _features(payload: bytes) -> Record:
    found: dict[str, np.ndarray | list[bytes]] = {}
    for key, feature in EXAMPLE.FromString(payload).features.feature.items():
        if feature.HasField("bytes_list"):
            found[key] = list(feature.bytes_list.value)
        elif feature.HasField("float_list"):
            found[key] = np.array(feature.float_list.value, "f4")
        else:
            found[key] = np.array(feature.int64_list.value, "i8")
    return found


def all_records(folder: Path) -> list[Record]:
    """The Examples of all shards of a data set, by shard name."""
    return [record for path in sorted(folder.glob("*.tfrecord-*")) for record in records(path)]
