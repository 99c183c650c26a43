"""Isaac Lab and robomimic HDF5: demos by their attributes and the shapes of their datasets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import h5py
import msgspec

from beam_pipeline.inspection.code import NO_INSTRUCTION, RATE_UNKNOWN
from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import Camera, DatasetReport, Notices, Stream, counted
from transforms.conventions import Source
from transforms.episode import RecordingRef
from transforms.sources import hdf5_file
from transforms.sources.hdf5_columns import integer_attribute, texts
from transforms.sources.isaac_cameras import image_kind
from transforms.sources.isaac_hdf5 import column_name, utterances_of
from transforms.sources.isaac_plan import FORMAT, DemoPlace
from transforms.unreadable import Unreadable

_BESIDE_STEPS = ("initial_state/", "next_obs/")


@dataclass
class _Seen:
    """What the files' headers showed so far."""

    steps: int = 0
    environment: str = ""
    streams: dict[str, Stream] = field(default_factory=dict)
    cameras: dict[str, Camera] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)


def inspect(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """All files of a path."""
    refs = plan_all(source, FORMAT, paths, notices)
    seen = _Seen()
    for uri, of_file in groupby((ref for ref in refs if ref.problem is None), key=lambda ref: ref.uri):
        try:
            with hdf5_file.opened(Path(uri)) as file:
                _look(file, list(of_file), seen, notices)
        except Unreadable as error:
            notices.problem(error.problem)
        except hdf5_file.FAULTS as error:
            notices.add(
                "corrupt", f"{uri}: its headers cannot be read ({type(error).__name__}: {error}); copy it again"
            )
    if seen.streams:
        notices.add(RATE_UNKNOWN, "HDF5 demos store no time")
        if not seen.said:
            notices.add(NO_INSTRUCTION, "no demo has an instruction among its attributes")
    return replace(
        counts(FORMAT, paths, refs),
        version=seen.environment,
        steps=seen.steps,
        streams=tuple(seen.streams[name] for name in sorted(seen.streams)),
        cameras=tuple(seen.cameras[name] for name in sorted(seen.cameras)),
        instructions=counted(seen.said),
        n_instructions=len(seen.said),
    )


def _look(file: h5py.File, refs: Sequence[RecordingRef], seen: _Seen, notices: Notices) -> None:
    """Rows of every demo of a file; columns, cameras and environment of its first."""
    shared = texts(file["data"].attrs)
    for at, ref in enumerate(refs):
        group = file[msgspec.json.decode(ref.place, type=DemoPlace).group]
        if at == 0:
            _columns(group, Path(ref.uri).name, seen)
            seen.environment = seen.environment or _environment(shared)
        declared, actions = integer_attribute(group.attrs, "num_samples"), group.get("actions")
        rows = actions.shape[0] if isinstance(actions, h5py.Dataset) and actions.shape else declared
        seen.steps += rows or 0
        if declared is not None and rows != declared:
            text = f"{Path(ref.uri).name} {group.name}: num_samples says {declared}, `actions` holds {rows} rows"
            notices.add("metadata.num_samples", text)
        if actions is None:
            notices.add("metadata.actions", f"{Path(ref.uri).name} {group.name}: no dataset `actions`")
        seen.said.update({utterance.text for utterance in utterances_of({**shared, **texts(group.attrs)})})


def _columns(group: h5py.Group, name: str, seen: _Seen) -> None:
    for path, member in hdf5_file.members(group, name).items():
        if not member.shape or path.startswith(_BESIDE_STEPS):
            continue
        column, kind = column_name(path), image_kind(path, member)
        if kind is None:
            seen.streams.setdefault(column, Stream(column, member.dtype.name, member.shape[1:]))
        else:
            camera = column.removeprefix("observation.")
            height, width = member.shape[1:3]
            codec = f"raw {member.dtype.name}" + (" depth" if kind == "depth" else "")
            seen.cameras.setdefault(camera, Camera(camera, codec, width, height, None))


def _environment(attributes: dict[str, str]) -> str:
    """`env_name` of `env_args`."""
    try:
        stated = msgspec.json.decode(attributes.get("env_args", "null"))
    except msgspec.DecodeError:
        return ""
    name = stated.get("env_name") if isinstance(stated, dict) else None
    return name if isinstance(name, str) else ""
