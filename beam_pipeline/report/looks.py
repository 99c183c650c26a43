"""Looks: a strip of small pictures and a few curves of one episode, and the file that keeps them beside the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_pipeline.output_folder import OutputError
from transforms.arrays import Floats, column_matrix
from transforms.output_schema import list_of
from transforms.schema import ACTION, END_EFFECTOR_POSE, JOINT_POSITION, STATE, UNKNOWN

PICTURES, CAMERAS, CURVES, POINTS = 6, 2, 8, 96
"""At most this many pictures of a camera, cameras, curves, and points of a curve: the page stays small."""
_SIGNALS = ((JOINT_POSITION, "rad"), (END_EFFECTOR_POSE, "m and xyzw"), (STATE, ""), (ACTION, ""))
_POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
_DIGITS = 5


@dataclass(frozen=True)
class Strip:
    """One camera's pictures (JPEG) at some steps, in order; `note` says why there are none."""

    camera: str
    steps: tuple[int, ...] = ()
    pictures: tuple[bytes, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One element of a signal at the look's `at` steps; None where it has no number."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Look:
    """What a person sees of an episode; `note` says why there is nothing."""

    episode_id: str
    content_id: str
    n_steps: int = 0
    signal: str = ""
    unit: str = ""
    at: tuple[int, ...] = ()
    curves: tuple[Curve, ...] = ()
    strips: tuple[Strip, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Wish:
    """Which episode to look at: `interval` of steps (inclusive) and `camera` are what a finding speaks of."""

    episode_id: str
    source: str
    content_id: str
    interval: tuple[int, int] | None = None
    camera: str = ""


_INTS, _TEXT = list_of(pa.int64()), pa.string()
_SCHEMA = pa.schema(
    [
        ("episode_id", _TEXT),
        ("content_id", _TEXT),
        ("n_steps", pa.int64()),
        ("signal", _TEXT),
        ("unit", _TEXT),
        ("at", _INTS),
        ("curves", list_of(pa.struct([("name", _TEXT), ("values", list_of(pa.float64()))]))),
        (
            "strips",
            list_of(
                pa.struct([("camera", _TEXT), ("steps", _INTS), ("pictures", list_of(pa.binary())), ("note", _TEXT)])
            ),
        ),
        ("note", _TEXT),
    ]
)


def write_looks(looks: Sequence[Look], path: Path) -> None:
    """Keep looks, the same bytes for the same looks; from them a report is drawn again."""
    rows = [asdict(look) for look in sorted(looks, key=lambda look: look.episode_id)]
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), path, compression="zstd")


def read_looks(path: Path) -> Mapping[str, Look]:
    """Looks by episode id, none where the file is absent. Raises OutputError for a damaged file."""
    if not path.exists():
        return {}
    try:
        rows = pq.read_table(path, schema=_SCHEMA).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise OutputError(f"{path} is damaged ({error}); remove it, then its pictures are missing") from error
    found = {}
    for row in rows:
        curves = tuple(Curve(c["name"], tuple(c["values"])) for c in row.pop("curves"))
        strips = tuple(
            Strip(s["camera"], tuple(s["steps"]), tuple(s["pictures"]), s["note"]) for s in row.pop("strips")
        )
        look = Look(**{**row, "at": tuple(row["at"])}, curves=curves, strips=strips)
        found[look.episode_id] = look
    return found


def picture_steps(n_steps: int, interval: tuple[int, int] | None) -> list[int]:
    """Steps to show: evenly spaced, or within the interval that a finding names and around it."""
    if n_steps <= PICTURES:
        return list(range(n_steps))
    if interval is None or interval[1] - interval[0] + 1 >= n_steps - 2:
        return np.linspace(0, n_steps - 1, PICTURES).round().astype(int).tolist()
    first, last = max(0, interval[0]), min(n_steps - 1, interval[1])
    inside = np.linspace(first, last, min(PICTURES - 2, last - first + 1)).round().astype(int).tolist()
    around = _spread(0, first - 1), _spread(last + 1, n_steps - 1)
    outside = [step for pair in zip_longest(*around) for step in pair if step is not None]
    return sorted({*inside, *outside[: PICTURES - len(inside)]})


def _spread(first: int, last: int) -> list[int]:
    """Steps of a stretch in the order in which they are worth a picture: its middle, then its far parts."""
    if last < first:
        return []
    at = (0.5, 0.0, 0.25, 0.75, 1.0) if first == 0 else (0.5, 1.0, 0.75, 0.25, 0.0)
    return list(dict.fromkeys(round(first + share * (last - first)) for share in at))


def cameras_in_order(cameras: Sequence[str], wish: Wish) -> list[str]:
    """The camera that the finding speaks of first, then by name."""
    return sorted(cameras, key=lambda name: (name != wish.camera, name))


def curves_of(
    steps: pa.RecordBatch, conventions: Mapping[str, str]
) -> tuple[str, str, tuple[int, ...], tuple[Curve, ...]]:
    """(signal, unit, steps shown, curves) of the first signal there is; of wide ones what moves most, in order.

    Joints have the names that the conventions give them, other elements their index from 0.
    """
    for signal, unit in _SIGNALS:
        values = column_matrix(steps, signal)
        if values is None or not values.shape[1] or not np.isfinite(values).any():
            continue
        at = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
        shown, names = _most_moving(values), _names(signal, values.shape[1], conventions)
        return signal, unit, tuple(at.tolist()), tuple(Curve(names[i], _numbers(values[at, i])) for i in shown)
    return "", "", (), ()


def _names(signal: str, width: int, conventions: Mapping[str, str]) -> list[str]:
    if signal == END_EFFECTOR_POSE and width == len(_POSE):
        return list(_POSE)
    declared = conventions.get("joint_names", UNKNOWN) if signal == JOINT_POSITION else UNKNOWN
    names = json.loads(declared) if declared != UNKNOWN else []
    return names if len(names) == width else [f"[{index}]" for index in range(width)]


def _most_moving(values: Floats) -> list[int]:
    """Indices of at most CURVES columns of (T, D), those of the widest range, in their own order."""
    known = np.where(np.isfinite(values), values, np.nan)
    spread = np.zeros(values.shape[1])
    any_known = np.isfinite(values).any(axis=0)
    spread[any_known] = np.nanmax(known[:, any_known], axis=0) - np.nanmin(known[:, any_known], axis=0)
    return sorted(np.argsort(-spread, kind="stable")[:CURVES].tolist())


def _numbers(values: NDArray[np.float64]) -> tuple[float | None, ...]:
    return tuple(float(f"{v:.{_DIGITS}g}") if np.isfinite(v) else None for v in values.tolist())
