"""Small recordings and episodes of known content, for the tests of the middle stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from transforms.arrays import list_column
from transforms.episode import TIMESTAMP, Episode, Recording


def batch(times: np.ndarray | list[int | None], **columns: Any) -> pa.RecordBatch:
    """A stream: 2-D arrays become list columns; a double underscore in a name reads as a dot."""
    names = [TIMESTAMP, *(name.replace("__", ".") for name in columns)]
    arrays = [pa.array(times, pa.int64())]
    for values in columns.values():
        two = isinstance(values, np.ndarray) and values.ndim == 2
        arrays.append(list_column(values) if two else pa.array(values))
    return pa.RecordBatch.from_arrays(arrays, names)


def recording(streams: dict[str, pa.RecordBatch], **fields: Any) -> Recording:
    base: dict[str, Any] = {
        "recording_id": "lab/000000",
        "source": "lab",
        "embodiment": "arm",
        "uri": "lab.bin",
        "format": "video",
    }
    return Recording(**{**base, **fields}, streams=streams)


def episode(steps: pa.RecordBatch, **fields: Any) -> Episode:
    base: dict[str, Any] = {
        "episode_id": "lab/000000",
        "source": "lab",
        "embodiment": "arm",
        "uri": "lab.bin",
        "format": "rlds",
    }
    return Episode(**{**base, **fields}, steps=steps)


def clock(rows: int, rate_hz: float, start_ns: int = 0) -> np.ndarray:
    return start_ns + np.round(np.arange(rows) * 1e9 / rate_hz).astype(np.int64)
