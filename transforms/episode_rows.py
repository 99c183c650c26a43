"""An episode as one row of the episodes table, and findings as people query them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import pyarrow as pa

from transforms.episode import Episode, Finding, VideoRef
from transforms.output_files import VIDEOS, portable, video_name
from transforms.output_schema import list_of

SCORE = "score."
_TEXT, _NS, _REAL, _COUNT = pa.string(), pa.int64(), pa.float64(), pa.int64()
_PAIRS = list_of(pa.struct([("key", _TEXT), ("value", _TEXT)]))
"""Names and values; `datasets` has no map type, and DuckDB makes a map of this by map_from_entries."""
_CAMERA = pa.struct(
    [
        ("camera", _TEXT),
        ("width", _COUNT),
        ("height", _COUNT),
        ("codec", _TEXT),
        ("intrinsics", list_of(_REAL)),
        ("distortion", list_of(_REAL)),
        ("extrinsics", list_of(_REAL)),
        ("extrinsics_frame", _TEXT),
    ]
)
_VIDEO = pa.struct(
    [
        ("camera", _TEXT),
        ("path", _TEXT),
        ("from_pts_ns", _NS),
        ("to_pts_ns", _NS),
        ("origin_ns", _NS),
        ("depth", pa.bool_()),
    ]
)
FINDING_FIELDS: list[tuple[str, pa.DataType]] = [
    ("stage", _TEXT),
    ("check", _TEXT),
    ("value", _REAL),
    ("unit", _TEXT),
    ("start_ns", _NS),
    ("end_ns", _NS),
    ("first_frame", _COUNT),
    ("last_frame", _COUNT),
    ("threshold", _REAL),
    ("passed", pa.bool_()),
    ("status", _TEXT),
    ("detail", _TEXT),
]
EPISODE_FIELDS: list[tuple[str, pa.DataType]] = [
    ("episode_id", _TEXT),
    ("content_id", _TEXT),
    ("parent_id", _TEXT),
    ("start_ns", _NS),
    ("end_ns", _NS),
    ("duration_s", _REAL),
    ("n_steps", _COUNT),
    ("n_transitions", _COUNT),
    ("embodiment", _TEXT),
    ("format", _TEXT),
    ("uri", _TEXT),
    ("instruction", _TEXT),
    ("instruction_status", _TEXT),
    ("success", pa.bool_()),
    ("conventions", _PAIRS),
    ("attributes", _PAIRS),
    ("cameras", list_of(_CAMERA)),
    ("videos", list_of(_VIDEO)),
]
"""What is known of an episode before anything is decided."""


def episodes_schema(checks: Sequence[str]) -> pa.Schema:
    """Fixed columns, then one score column per check that any kept episode was measured by."""
    findings = ("findings", list_of(pa.struct(FINDING_FIELDS)))
    return pa.schema([*EPISODE_FIELDS, findings, *((SCORE + check, _REAL) for check in checks)])


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """An episode's findings in a fixed order."""
    return sorted(findings, key=_place)


def _place(f: Finding) -> tuple[Any, ...]:
    when, where = f.interval or (), f.frames or ()
    return (f.stage, f.check, when, where, f.detail, f.unit, f.status, f.value is not None, f.value or 0.0)


def finding_row(found: Finding, root: str) -> dict[str, object]:
    """A finding's columns before any rule; `root` is cut from paths in its text."""
    start_ns, end_ns = found.interval or (None, None)
    first, last = found.frames or (None, None)
    return {
        "stage": found.stage,
        "check": found.check,
        "value": found.value,
        "unit": found.unit,
        "start_ns": start_ns,
        "end_ns": end_ns,
        "first_frame": first,
        "last_frame": last,
        "status": found.status,
        "detail": portable(found.detail, root),
    }


def episode_row(episode: Episode, n_steps: int, n_transitions: int, root: str) -> dict[str, object]:
    """The columns of EPISODE_FIELDS; `root` is cut from paths."""
    has_time = episode.start_ns is not None and episode.end_ns is not None
    return {
        "episode_id": episode.episode_id,
        "content_id": episode.content_id,
        "parent_id": episode.parent_id,
        "start_ns": episode.start_ns,
        "end_ns": episode.end_ns,
        "duration_s": ((episode.end_ns or 0) - (episode.start_ns or 0)) / 1e9 if has_time else None,
        "n_steps": n_steps,
        "n_transitions": n_transitions,
        "embodiment": episode.embodiment,
        "format": episode.format,
        "uri": portable(episode.uri, root),
        "instruction": episode.instruction,
        "instruction_status": episode.instruction_status,
        "success": episode.success,
        "conventions": _pairs({k: _file_name(v) for k, v in episode.conventions.items()}),
        "attributes": _pairs({k: portable(v, root) for k, v in episode.attributes.items()}),
        "cameras": _camera_rows(episode),
        "videos": _video_rows(episode),
    }


def _pairs(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": values[key]} for key in sorted(values)]


def _file_name(value: str) -> str:
    """A declared file (the URDF) by its name: its folder differs between machines."""
    return PurePath(value).name if PurePath(value).is_absolute() else value


def _camera_rows(episode: Episode) -> list[dict[str, object]]:
    return [
        {
            "camera": name,
            "width": model.width,
            "height": model.height,
            "codec": model.codec,
            "intrinsics": model.intrinsics,
            "distortion": model.distortion,
            "extrinsics": model.extrinsics,
            "extrinsics_frame": model.extrinsics_frame,
        }
        for name, model in sorted(episode.cameras.items())
    ]


def _video_rows(episode: Episode) -> list[dict[str, object]]:
    return [
        {
            "camera": name,
            "path": f"{VIDEOS}/{video_name(ref.content_hash, ref.uri)}",
            "from_pts_ns": ref.start_ns,
            "to_pts_ns": ref.end_ns,
            "origin_ns": ref.origin_ns,
            "depth": ref.depth,
        }
        for name, ref in sorted(episode.videos.items())
        if isinstance(ref, VideoRef)
    ]
