"""MultimodalLoader: finds the format of each path, plans its recordings from metadata, reshuffles, then reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import apache_beam as beam
import xxhash
from apache_beam.transforms.error_handling import ErrorHandler

from transforms.canonical import canonicalise
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Problem, Recording, RecordingRef
from transforms.formats import FORMATS, found_in
from transforms.media import MediaParams, limit_shared_decoder
from transforms.source_paths import id_prefix, split_pattern
from transforms.sources import isaac_hdf5, lerobot, mcap, rlds, rlds_tensorflow, rosbag1, rosbag2
from transforms.sources.mcap_records import MAGIC as MCAP_MAGIC
from transforms.sources.rosbag1_records import MAGIC as ROSBAG_MAGIC
from transforms.stage import EpisodeStage, Unreadable, contained

if TYPE_CHECKING:
    from transforms.ray_source import Dataset


def plan(source: Source, fail_fast: bool = False) -> Iterator[RecordingRef]:
    """Every recording of a source, from metadata alone; what cannot even be planned carries its problem.

    With `fail_fast` a reader's own failure is raised; what cannot be read is a problem all the same.
    A pattern such as `**` matches a folder and what lies in it: what is met again is not planned again.
    """
    seen: set[str] = set()
    met: set[int] = set()
    for dataset, name in found_in(source):
        for found in _plan_dataset(source, dataset, name, fail_fast):
            ref = _named_in_text(found)
            itself = xxhash.xxh3_64_intdigest("\0".join((ref.recording_id, ref.uri, ref.place)).encode())
            if itself in met:
                continue
            yield _disambiguate(ref, source) if ref.recording_id in seen else ref
            seen.add(ref.recording_id)
            met.add(itself)


def _named_in_text(ref: RecordingRef) -> RecordingRef:
    """The recording; where its path is no UTF-8, which nothing could pass on or write down, a problem in its place."""
    try:
        (ref.recording_id + ref.uri + (ref.problem.detail if ref.problem else "")).encode()
    except UnicodeEncodeError:
        readable = [os.fsencode(text).decode(errors="backslashreplace") for text in (ref.recording_id, ref.uri)]
        problem = Problem("unreadable", f"{readable[1]}: its name is not UTF-8; rename it")
        return RecordingRef(readable[0], ref.source, ref.format, readable[1], split=ref.split, problem=problem)
    return ref


def _plan_dataset(source: Source, path: Path, name: str | Problem | None, fail_fast: bool) -> Iterator[RecordingRef]:
    def refused(problem: Problem) -> RecordingRef:
        recording_id = f"{id_prefix(source, path.parent)}/{path.name}"
        known = name if isinstance(name, str) else "unknown"
        return RecordingRef(recording_id, source.name, known, str(path), problem=problem)

    def failed(error: Exception) -> RecordingRef:
        if isinstance(error, Unreadable):
            return refused(error.problem)
        if isinstance(error, OSError):
            reason = f"{path}: {error.strerror or error}; check that it exists and is readable"
            return refused(Problem("unreadable", reason))
        if fail_fast:
            raise error
        return refused(Problem("plan_failed", f"{path}: {type(error).__name__}: {error}; run with --fail_fast"))

    if isinstance(name, Problem):
        yield refused(name)
    elif name is None:
        reason = f"{path}: no reader knows this content; set `format:` or remove the file"
        yield refused(Problem("unknown_format", reason))
    else:
        yield from contained(partial(FORMATS[name].plan, source, path), failed)


def _disambiguate(ref: RecordingRef, source: Source) -> RecordingRef:
    """Two files of one stem give one id: the later one by path gets a suffix made of its place below the source."""
    root = str(split_pattern(source.path)[0])
    suffix = xxhash.xxh32_hexdigest((ref.uri.removeprefix(root) + ref.place).encode())
    return replace(ref, recording_id=f"{ref.recording_id}~{suffix}")


def _reader(name: str, source: Source) -> ModuleType:
    return rlds_tensorflow if source.reader == "tensorflow" else FORMATS[name]


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Encoded images (JPEG or PNG) of a camera that lives inside a container file, in the order of `indices`."""
    with Path(ref.uri).open("rb") as file:
        magic = file.read(4)
    readers: Mapping[bytes, ModuleType] = {
        b"\x89HDF": isaac_hdf5,
        b"PAR1": lerobot,
        MCAP_MAGIC[:4]: mcap,
        ROSBAG_MAGIC[:4]: rosbag1,
        b"SQLi": rosbag2,
    }
    images: list[bytes] = readers.get(magic, rlds).read_images(ref, indices)
    return images


class PlanRecordings(beam.DoFn):
    """One source in, one RecordingRef per planned recording out; the count goes to `plan_dir` for the display.

    `only` are the ids of the recordings that are asked for, by default all.
    """

    def __init__(self, plan_dir: str | None, fail_fast: bool = False, only: frozenset[str] | None = None) -> None:
        self._plan_dir = plan_dir
        self._fail_fast = fail_fast
        self._only = only

    def process(self, element: Source) -> Iterator[RecordingRef]:
        planned = 0
        for ref in plan(element, self._fail_fast):
            if self._only is not None and ref.recording_id not in self._only:
                continue
            planned += 1
            yield ref
        if self._plan_dir is not None:
            folder = Path(self._plan_dir)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / element.name).write_text(str(planned), encoding="utf-8")


class ReadRecording(EpisodeStage):
    """Reads one planned recording and adds the canonical columns that its embodiment declares."""

    name = "load"
    output = Recording

    def __init__(
        self, sources: Mapping[str, Source], embodiments: Mapping[str, Embodiment], media: MediaParams | None = None
    ) -> None:
        super().__init__()
        self._sources = sources
        self._embodiments = embodiments
        self._media = media or MediaParams()

    def setup(self) -> None:
        limit_shared_decoder(self._media)

    def process_element(self, element: RecordingRef) -> Iterable[Recording]:
        if element.problem is not None:
            raise Unreadable(element.problem.rule, element.problem.detail)
        source = self._sources[element.source]
        embodiment = self._embodiments.get(source.embodiment, Embodiment())
        try:
            recording: Recording = _reader(element.format, source).read(element, source, embodiment)
        except OSError as error:
            raise Unreadable("unreadable", f"{element.uri}: {error}; check that it exists and is readable") from error
        return [canonicalise(recording, embodiment)]


class LoaderConfig(Protocol):
    """What a configuration says about its inputs; PipelineConfig does."""

    @property
    def sources(self) -> Sequence[Source]: ...

    @property
    def embodiments(self) -> Mapping[str, Embodiment]: ...

    @property
    def media(self) -> MediaParams: ...


class MultimodalLoader(beam.PTransform):
    """Sources in, recordings out; each recording is planned, then read wherever a worker is free."""

    def __init__(
        self,
        sources: Sequence[Source],
        embodiments: Mapping[str, Embodiment],
        media: MediaParams | None = None,
        plan_dir: str | None = None,
        only: frozenset[str] | None = None,
    ) -> None:
        super().__init__()
        self._media = media or MediaParams()
        self._plan_dir = plan_dir
        self._only = only
        self._sources = {source.name: source for source in sources}
        self._embodiments = embodiments
        self._handler: ErrorHandler | None = None
        self._fail_fast = False

    def with_error_handler(self, handler: ErrorHandler | None, fail_fast: bool = False) -> MultimodalLoader:
        """Send unreadable recordings to Beam's ErrorHandler; None raises them."""
        self._handler = handler
        self._fail_fast = fail_fast
        return self

    @classmethod
    def ray_dataset(cls, config: LoaderConfig, plan_dir: str | None = None, fail_fast: bool = False) -> Dataset:
        """The recordings of a configuration as a `ray.data.Dataset`, one row each, by `recording_rows.ROW_SCHEMA`.

        What cannot be read is a row with `error` set; with `fail_fast` a reader's own failure is raised instead, by
        whatever executes the dataset. Plans the sources in tasks of the Ray that is connected. Raises
        ModuleNotFoundError where Ray Data is not installed.
        """
        try:
            from transforms.ray_source import recording_dataset
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"a Ray dataset needs Ray Data ({error}); pip install 'demosift[ray]'",
                name=error.name,
            ) from error
        reader = ReadRecording({source.name: source for source in config.sources}, config.embodiments, config.media)
        return recording_dataset(config.sources, reader, plan_dir, fail_fast)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_handler"}

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Recording]:
        reader = ReadRecording(self._sources, self._embodiments, self._media)
        return (
            begin
            | "List sources" >> beam.Create(list(self._sources.values()), reshuffle=False)
            | "Plan recordings"
            >> beam.ParDo(PlanRecordings(self._plan_dir, self._fail_fast, self._only)).with_output_types(RecordingRef)
            | "Spread recordings" >> beam.Reshuffle()
            | "Read recordings" >> reader.with_error_handler(self._handler, self._fail_fast)
        )
