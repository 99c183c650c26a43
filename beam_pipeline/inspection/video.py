"""Folders of videos: headers of the files, and the columns and instructions of what lies beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from beam_pipeline.inspection.code import NO_INSTRUCTION
from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import Camera, DatasetReport, Notices, Stream, counted
from beam_pipeline.inspection.rlds import stream_of
from beam_pipeline.inspection.video_headers import READ_FILES, read_headers, spaced
from transforms.conventions import Embodiment, Source
from transforms.episode import TIMESTAMP
from transforms.media import VideoHeader
from transforms.sources.sidecar import Sidecar, gather_vectors, read_sidecar
from transforms.sources.video import FORMAT, VideoPlace
from transforms.unreadable import Unreadable

_READ_WHOLE_BYTES = 1 << 20
"""JSON has no header: a small file is read whole, a larger one is not looked into."""


def inspect(source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport:
    """All videos of a path: each is one recording, cut into episodes by marks or at pauses when curated."""
    refs = plan_all(source, FORMAT, paths, notices)
    places = {ref.uri: msgspec.json.decode(ref.place, type=VideoPlace) for ref in refs if ref.problem is None}
    headers = read_headers(Path("/"), list(places), notices)
    for uri, place in places.items():
        if not place.sidecars:
            notices.add("metadata.sidecar", f"{Path(uri).name}: nothing beside it")
    streams: dict[str, Stream] = {}
    said: Counter[str] = Counter()
    for uri in spaced(list(places), READ_FILES):
        for label, name in sorted(places[uri].sidecars.items()):
            side = _beside(Path(uri).parent / name, source, notices)
            said.update({utterance.text for utterance in side.utterances})
            for field in side.table.schema if side.table is not None else ():
                if field.name == TIMESTAMP and name.endswith((".json", ".jsonl")):
                    continue  # the clock that the reader made
                stream = replace(stream_of(field), name=f"{label}.{field.name}" if label != "sensors" else field.name)
                streams.setdefault(stream.name, stream)
    if places and not said:
        notices.add(NO_INSTRUCTION, "no sidecar states an instruction")
    whole = len(headers) == len(places)
    return replace(
        counts(FORMAT, paths, refs),
        steps=sum(h.n_declared for h in headers.values())
        if whole and all(h.n_declared for h in headers.values())
        else None,
        duration_s=sum(h.duration_ns for h in headers.values()) / 1e9 if whole else None,
        streams=tuple(streams[name] for name in sorted(streams)),
        cameras=tuple(_cameras(places, headers)),
        instructions=counted(said),
        n_instructions=len(said),
    )


def _cameras(places: dict[str, VideoPlace], headers: Mapping[str, VideoHeader]) -> Iterator[Camera]:
    """Each camera once per codec, size and rate."""
    kinds: Counter[tuple[str, str, int, int, float]] = Counter()
    files = Counter(place.camera for place in places.values())
    for uri, header in headers.items():
        kinds[places[uri].camera, header.codec, header.width, header.height, round(header.rate_hz, 3)] += 1
    for (name, codec, width, height, rate), count in sorted(kinds.items()):
        alone = sum(kind[0] == name for kind in kinds) == 1
        yield Camera(name, codec, width, height, rate or None, files[name] if alone else count, 0, count)


def _beside(path: Path, source: Source, notices: Notices) -> Sidecar:
    """What a sidecar's head tells; of JSON, the whole where it is small."""
    try:
        if path.suffix == ".parquet":
            return Sidecar(_empty(pq.read_schema(path)))
        if path.suffix == ".csv":
            with pyarrow.csv.open_csv(path) as reader:
                return Sidecar(_empty(reader.schema))
        if path.stat().st_size > _READ_WHOLE_BYTES:
            return Sidecar()
        side = read_sidecar(path, source, Embodiment())
        notices.findings(side.findings)
        return side
    except Unreadable as error:
        notices.problem(error.problem)
    except (pa.ArrowException, OSError) as error:
        notices.add("corrupt", f"{path}: not readable as {path.suffix[1:]} ({error}); write it again")
    return Sidecar()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    columns = gather_vectors({field.name: pa.array([], field.type) for field in schema})
    return pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
