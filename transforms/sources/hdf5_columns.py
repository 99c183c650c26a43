"""HDF5 datasets and attributes as Arrow columns and JSON text, the same for every layout of episodes in HDF5."""

from __future__ import annotations

import h5py
import msgspec
import numpy as np
import pyarrow as pa

from transforms.arrays import list_column
from transforms.sources.hdf5_file import Member


def text_of(value: object) -> str:
    """Text as HDF5 gives it, bytes or str."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def integer_attribute(attributes: h5py.AttributeManager, name: str) -> int | None:
    """A whole-number attribute; None where it is absent or something else."""
    value = attributes.get(name)
    return int(value) if isinstance(value, (int, np.integer)) else None


def column(dataset: Member, count: int) -> pa.Array | None:
    """(T,) as scalars, (T, …) as rows of its elements in C order, strings as text; None for other kinds."""
    values = dataset.read() if dataset.dtype.kind in "biufSO" else None
    if values is None or (dataset.dtype.kind in "SO" and h5py.check_string_dtype(dataset.dtype) is None):
        return None
    if dataset.dtype.kind in "SO":
        return pa.array(list(map(text_of, values.tolist()))) if values.ndim == 1 else None
    return pa.array(values) if values.ndim == 1 else list_column(values.reshape(count, -1))


def clock(count: int, rate_hz: float | None) -> pa.Array:
    """(T,) ns of an even clock from 0; null throughout where no rate is known."""
    if rate_hz is None:
        return pa.nulls(count, pa.int64())
    return pa.array(np.round(np.arange(count) * (1e9 / rate_hz)).astype(np.int64))


def texts(attributes: h5py.AttributeManager) -> dict[str, str]:
    """Every attribute as JSON, by name."""
    return {name: as_json(value) for name, value in sorted(attributes.items())}


def as_json(value: object) -> str:
    """A value as JSON; text that already is a JSON object or list stays as it is."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            msgspec.json.decode(value)
            return value
        except msgspec.DecodeError:
            pass
    return msgspec.json.encode(value, enc_hook=str).decode()
