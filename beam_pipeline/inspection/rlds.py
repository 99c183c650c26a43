"""RLDS: shards by their record headers, columns by the first whole record of each split, as no header states them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from beam_pipeline.inspection.code import NO_INSTRUCTION, RATE_UNKNOWN
from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import Camera, DatasetReport, Instruction, Notices, Stream
from transforms.conventions import Embodiment, Source
from transforms.episode import STEPS, TIMESTAMP, ImageRef, Recording, RecordingRef
from transforms.schema import FRAME_INDEX
from transforms.sources.rlds import read, read_images
from transforms.sources.rlds_leaf import Leaf
from transforms.sources.rlds_metadata import load_features, load_info
from transforms.sources.rlds_plan import FORMAT
from transforms.sources.rlds_steps import camera_name
from transforms.unreadable import Unreadable

_ENCODINGS = {b"\xff\xd8": "jpeg", b"\x89P": "png"}


def inspect(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """A TFDS folder, or files of records."""
    refs = plan_all(source, FORMAT, paths, notices)
    report = counts(FORMAT, paths, refs)
    firsts: dict[str, RecordingRef] = {}
    for ref in refs:
        if ref.problem is None:
            firsts.setdefault(ref.split, ref)
    recordings = [found for ref in firsts.values() if (found := _first(ref, source, notices)) is not None]
    if not recordings:
        return report
    folder = Path(recordings[0].uri).parent
    steps = recordings[0].streams[STEPS]
    said = list(dict.fromkeys(u.text for recording in recordings for u in recording.utterances))
    if steps[TIMESTAMP].null_count:
        notices.add(RATE_UNKNOWN, "records store no time")
    if not said:
        notices.add(NO_INSTRUCTION, "the first records hold no instruction")
    info, _ = load_info(folder)
    return replace(
        report,
        version=f"{info.name} {info.version}".strip() if info is not None else "",
        streams=streams_of(steps.schema),
        cameras=tuple(_cameras(recordings[0], load_features(folder)[0])),
        instructions=tuple(Instruction(text, None) for text in said),
        n_instructions=len(said),
    )


def _first(ref: RecordingRef, source: Source, notices: Notices) -> Recording | None:
    try:
        recording = read(replace(ref, findings=()), source, Embodiment())
    except Unreadable as error:
        notices.problem(error.problem)
        return None
    for finding in recording.findings:
        notices.add(finding.check, f"{ref.recording_id.removeprefix(source.name + '/')}: {finding.detail}")
    return recording


def streams_of(schema: pa.Schema) -> tuple[Stream, ...]:
    """Columns of steps as streams; the loader's own clock and counter are none."""
    return tuple(stream_of(field) for field in schema if field.name not in (TIMESTAMP, FRAME_INDEX))


def stream_of(field: pa.Field) -> Stream:
    """One column: fixed-size lists by their width."""
    kind, shape = field.type, list[int | None]()
    while pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        shape.append(kind.list_size if pa.types.is_fixed_size_list(kind) else None)
        kind = kind.value_type
    names = {"float": "float32", "double": "float64", "halffloat": "float16"}
    return Stream(field.name, names.get(str(kind), str(kind)), tuple(shape))


def _cameras(recording: Recording, leaves: Mapping[str, Leaf]) -> list[Camera]:
    declared = {camera_name(leaf.column): leaf for leaf in leaves.values() if len(leaf.shape) >= 2}
    found = []
    for name, ref in sorted(recording.videos.items()):
        if not isinstance(ref, ImageRef):
            continue
        leaf = declared.get(name)
        height, width = leaf.shape[:2] if leaf is not None else (None, None)
        codec = "raw" if leaf is not None and leaf.kind == "tensor" and leaf.is_raw_image else None
        if codec is None:
            codec = _ENCODINGS.get(read_images(ref, [0])[0][:2], "unknown")
        found.append(Camera(name, codec, width, height, None))
    return found
