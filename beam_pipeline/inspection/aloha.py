"""ALOHA HDF5: one episode a file, by the shapes of its datasets and the attributes of its root."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from beam_pipeline.inspection.code import NO_INSTRUCTION, RATE_UNKNOWN
from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import Camera, DatasetReport, Notices, Stream, counted
from transforms.conventions import Source
from transforms.sources import hdf5_file
from transforms.sources.aloha_hdf5 import camera_name, column_name, utterances_of
from transforms.sources.aloha_plan import FORMAT, IMAGES_GROUP
from transforms.sources.hdf5_columns import texts
from transforms.sources.isaac_cameras import image_kind
from transforms.unreadable import Unreadable


def inspect(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """All files of a path."""
    refs = plan_all(source, FORMAT, paths, notices)
    streams: dict[str, Stream] = {}
    cameras: dict[str, Camera] = {}
    said: Counter[str] = Counter()
    steps = 0
    for ref in refs:
        if ref.problem is not None:
            continue
        path = Path(ref.uri)
        try:
            with hdf5_file.opened(path) as file:
                members = hdf5_file.members(file["/"], path.name)
                said.update({utterance.text for utterance in utterances_of(texts(file.attrs))})
        except Unreadable as error:
            notices.problem(error.problem)
            continue
        except hdf5_file.FAULTS as error:
            notices.add(
                "corrupt", f"{path}: its headers cannot be read ({type(error).__name__}: {error}); copy it again"
            )
            continue
        lengths = {name: m.shape[0] for name, m in members.items() if m.shape}
        steps += lengths.get("action", lengths.get("observations/qpos", 0))
        if "action" not in members:
            notices.add("metadata.actions", f"{path.name}: no dataset `action`")
        for name, member in members.items():
            kind, inside = image_kind(name, member), name.startswith(f"{IMAGES_GROUP}/")
            if kind is not None or inside:
                height, width = member.shape[1:3] if kind is not None else (None, None)
                codec = f"raw {member.dtype.name}" if kind is not None else "jpeg"
                camera = camera_name(name)
                cameras.setdefault(camera, Camera(camera, codec, width, height, None))
            elif len(member.shape) > 1 and (name == "action" or name.startswith("observations/")):
                column = column_name(name)
                streams.setdefault(column, Stream(column, member.dtype.name, member.shape[1:]))
    if streams:
        notices.add(RATE_UNKNOWN, "ALOHA files store no time")
        if not said:
            notices.add(NO_INSTRUCTION, "no file has an instruction among its attributes")
    return replace(
        counts(FORMAT, paths, refs),
        steps=steps,
        streams=tuple(streams[name] for name in sorted(streams)),
        cameras=tuple(cameras[name] for name in sorted(cameras)),
        instructions=counted(said),
        n_instructions=len(said),
    )
