"""MultimodalLoader: finds the format of each path, plans its recordings from metadata, reshuffles, then reads."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import apache_beam as beam
import xxhash
from apache_beam.transforms.error_handling import ErrorHandler

from transforms.canonical import canonicalise
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Problem, Recording, RecordingRef
from transforms.media import MediaParams, limit_shared_decoder
from transforms.sources import isaac_hdf5, lerobot, rlds, video
from transforms.stage import EpisodeStage, Unreadable

FORMATS: Mapping[str, ModuleType] = {
    "rlds": rlds,
    "lerobot": lerobot,
    "isaac_hdf5": isaac_hdf5,
    "video": video,
}
_GLOB = frozenset("*?[")


def expand(source: Source) -> list[Path]:
    """The paths that a source names, sorted; empty where nothing matches."""
    if _GLOB & set(source.path):
        return sorted(Path(p) for p in glob.glob(source.path, recursive=True))  # noqa: PTH207 absolute patterns
    path = Path(source.path)
    return [path] if path.exists() or path.is_symlink() else []


def detect(path: Path) -> str | None:
    """The format of a file or folder by its content; None where no reader knows it."""
    return next((name for name, reader in FORMATS.items() if reader.detect(path)), None)


def _datasets(source: Source, path: Path) -> Iterator[tuple[Path, str | None]]:
    """What is to be planned below a path: itself where a reader takes it, else each of a folder's entries."""
    if source.format != "auto":
        yield path, source.format
        return
    found = detect(path)
    if found is not None or not path.is_dir():
        yield path, found
        return
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    known = [(p, detect(p)) for p in entries]
    stems = {p.stem for p, name in known if name == "video"}
    for entry, name in known:
        if name is None and entry.is_dir():
            yield from _datasets(source, entry)
        elif name is not None or entry.stem.split(".")[0] not in stems:
            yield entry, name


def plan(source: Source) -> Iterator[RecordingRef]:
    """Every recording of a source, from metadata alone; what cannot even be planned carries its problem."""
    seen: set[str] = set()
    for path in expand(source):
        for dataset, name in _datasets(source, path):
            for ref in _plan_dataset(source, dataset, name):
                if ref.recording_id in seen:
                    ref = _disambiguate(ref, source)
                seen.add(ref.recording_id)
                yield ref


def _plan_dataset(source: Source, path: Path, name: str | None) -> Iterator[RecordingRef]:
    problem: Problem
    if name is None:
        problem = Problem("unknown_format", f"{path}: no reader knows this content; set `format:` or remove the file")
    else:
        try:
            yield from FORMATS[name].plan(source, path)
            return
        except Unreadable as error:
            problem = error.problem
        except OSError as error:
            problem = Problem("unreadable", f"{path}: {error.strerror or error}; check that it exists and is readable")
    yield RecordingRef(f"{source.name}/{path.name}", source.name, name or "unknown", str(path), problem=problem)


def _disambiguate(ref: RecordingRef, source: Source) -> RecordingRef:
    """Two files of one stem give one id: the later one by path gets a suffix made of its place below the source."""
    root = source.path.split("*")[0].split("?")[0].split("[")[0]
    suffix = xxhash.xxh32_hexdigest((ref.uri.removeprefix(root) + ref.place).encode())
    return replace(ref, recording_id=f"{ref.recording_id}~{suffix}")


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Encoded images (JPEG or PNG) of a camera that lives inside a container file, in the order of `indices`."""
    with Path(ref.uri).open("rb") as file:
        magic = file.read(4)
    reader = isaac_hdf5 if magic == b"\x89HDF" else lerobot if magic == b"PAR1" else rlds
    images: list[bytes] = reader.read_images(ref, indices)
    return images


class PlanRecordings(beam.DoFn):
    """One source in, one RecordingRef per planned recording out; the count goes to `plan_dir` for the display."""

    def __init__(self, plan_dir: str | None) -> None:
        self._plan_dir = plan_dir

    def process(self, element: Source) -> Iterator[RecordingRef]:
        planned = 0
        for ref in plan(element):
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
            recording: Recording = FORMATS[element.format].read(element, source, embodiment)
        except OSError as error:
            raise Unreadable("unreadable", f"{element.uri}: {error}; check that it exists and is readable") from error
        return [canonicalise(recording, embodiment)]


class MultimodalLoader(beam.PTransform):
    """Sources in, recordings out; each recording is planned, then read wherever a worker is free."""

    def __init__(
        self,
        sources: Sequence[Source],
        embodiments: Mapping[str, Embodiment],
        media: MediaParams | None = None,
        plan_dir: str | None = None,
    ) -> None:
        super().__init__()
        self._media = media or MediaParams()
        self._plan_dir = plan_dir
        self._sources = {source.name: source for source in sources}
        self._embodiments = embodiments
        self._handler: ErrorHandler | None = None
        self._fail_fast = False

    def with_error_handler(self, handler: ErrorHandler | None, fail_fast: bool = False) -> MultimodalLoader:
        """Send unreadable recordings to Beam's ErrorHandler; None raises them."""
        self._handler = handler
        self._fail_fast = fail_fast
        return self

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_handler"}

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Recording]:
        reader = ReadRecording(self._sources, self._embodiments, self._media).with_error_handler(
            self._handler, self._fail_fast
        )
        return (
            begin
            | "List sources" >> beam.Create(list(self._sources.values()), reshuffle=False)
            | "Plan recordings" >> beam.ParDo(PlanRecordings(self._plan_dir)).with_output_types(RecordingRef)
            | "Spread recordings" >> beam.Reshuffle()
            | "Read recordings" >> reader.with_error_handler(self._handler, self._fail_fast)
        )
