"""Evidence that grows for 30 nights: what the last search for duplicates costs beside the second, and what it reads.

Fingerprints are benchmarks/decide_set.py's (4 % near copies, 2 % equal contents), shuffled by a seed and dealt out into
nights of equal size, a source each, so that copies come on other nights than what they copy. Timed is what `curate` and
`decide` do about duplicates: open the index, search, commit. CPU seconds are of this process and its threads.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import xxhash
from rich.console import Console

from beam_pipeline.config import PipelineConfig
from beam_pipeline.deduplication.episode_index import OpenIndex, open_index
from beam_pipeline.evidence_folder import commit_sources, shingle_files
from beam_pipeline.output_folder import STAGING
from beam_pipeline.pipeline import MultimodalPipeline
from beam_pipeline.work import Work
from benchmarks.decide_set import SEED, shingles, write_config, write_table
from benchmarks.harness import Bar, Row, timed
from transforms.deduplication.clusters import clusters
from transforms.deduplication.night_index import BANDS, CONTENTS, PAGE_BYTES, read_run
from transforms.measured import SHINGLES, SHINGLES_SCHEMA, STORE, store_path
from transforms.part_writer import SinkParams
from transforms.reports import read_edges

NIGHTS, NIGHT_EPISODES = 30, 5_000
_RATIO, _DIFFER = "night 30 over night 2", "edges that differ"
_TEXT = "pick up the cube"


class Nights:
    """An output folder whose evidence grows by a source a night."""

    def __init__(self, folder: Path, nights: int) -> None:
        self._config = PipelineConfig.load(write_config(folder, nights, 1.0), sources_present=False)
        self._pipeline = MultimodalPipeline(self._config)
        self._work = Work(self._config, Console(quiet=True), "DirectRunner", None)
        self.output = folder / "out"

    def store(self, night: int, fingerprints: pa.Table) -> None:
        """A night's fingerprints as evidence of a source."""
        source = self._config.sources[night].name
        staging = self.output / STAGING
        params = SinkParams("arrow", "none", row_group_rows=65_536)
        report = write_table(staging, source, store_path(source, SHINGLES, 0, params), fingerprints, params)
        commit_sources(self.output, staging, self._config, [source], [report], self._work.version)

    def open(self) -> OpenIndex:
        """The index and what it does not hold."""
        return open_index(self.output, self._config.deduplication, self._work.version)

    def search(self, files: Sequence[str], folder: Path, index: OpenIndex | None = None) -> None:
        """Report the edges of files in a folder, with an index or without."""
        own = (index.view(), index.run) if index else (None, None)
        self._work.run(lambda p: self._pipeline.compare(p | beam.Create(files).with_output_types(str), folder, *own))


def rows(quick: bool) -> list[Row]:
    """Run all nights, then all of it at once."""
    count, size = (5, 200) if quick else (NIGHTS, NIGHT_EPISODES)
    cpu, wall = [], []
    with tempfile.TemporaryDirectory() as name:
        nights = Nights(Path(name), count)
        for night, fingerprints in enumerate(_nights(count, size)):
            nights.store(night, fingerprints)
            began, started = time.monotonic(), time.process_time()
            index = nights.open()
            nights.search(index.documents, index.folder, index)
            spent = time.process_time() - started, time.monotonic() - began
            read = _bytes_read(index) / size
            began, started = time.monotonic(), time.process_time()
            edges = index.commit()
            cpu.append(spent[0] + time.process_time() - started)
            wall.append(spent[1] + time.monotonic() - began)
        again = timed(lambda: nights.open().commit())
        size_mb = _megabytes(nights.output / STORE / "duplicates")
        paths = [str(path) for path, _ in shingle_files(nights.output)]
        whole = timed(lambda: nights.search(paths, Path(name)))
        one = read_edges(Path(name))
        stored_mb = sum(Path(path).stat().st_size for path in paths) / 1e6
    differ = len(set(edges) ^ set(one))
    slowest = int(np.argmax(cpu[1:])) + 2
    last = "" if count == NIGHTS else f"; here night {count}"
    return [
        Row("night 2", cpu[1], "s", f"CPU; {count} nights of {size:,} episodes, seed {SEED}; wall {wall[1]:.2f} s"),
        Row("night 30", cpu[-1], "s", f"CPU; wall {wall[-1]:.2f} s{last}"),
        Row(_RATIO, cpu[-1] / cpu[1], "x", "CPU"),
        Row("median of all nights", statistics.median(cpu), "s", "CPU"),
        Row("slowest night but the first", max(cpu[1:]), "s", f"CPU; night {slowest}, in which runs were merged"),
        Row("deciding anew, nothing new", again, "s", "CPU; no search at all"),
        Row("all at once", whole, "s", f"CPU; one search over all {count * size:,} without an index"),
        Row("index read per new episode, last night", read, "bytes", "4 KiB pages of bands and contents with its keys"),
        Row("index", size_mb, "MB", f"on disk; it holds the fingerprints too, {stored_mb:.0f} MB"),
        Row(_DIFFER, differ, "edges", f"of {len(one):,} in {len(clusters(one)):,} clusters that one search finds"),
    ]


def bars() -> list[Bar]:
    """A night costs by its own size, and 30 nights give the edges of one search."""
    return [Bar(_RATIO, "max", 1.3), Bar(_DIFFER, "max", 0)]


def _nights(nights: int, size: int) -> list[pa.Table]:
    rng = np.random.default_rng(SEED)
    bodies, _ = shingles(rng, nights * size)
    found = []
    for night, own in enumerate(rng.permutation(nights * size).reshape(nights, size)):
        columns = {
            "episode_id": [f"s{night}/{row:06d}" for row in range(size)],
            "content_id": [xxhash.xxh3_128_hexdigest(bodies[place]) for place in own],
            "instruction": [_TEXT] * size,
            "instruction_shingles": [b""] * size,
            "trajectory_shingles": [bodies[place] for place in own],
            "frames": [[]] * size,
        }
        found.append(pa.table(columns, schema=SHINGLES_SCHEMA))
    return found


def _bytes_read(index: OpenIndex) -> int:
    """What a night's keys touch of the runs that were there before it."""
    view, pages = index.view(), 0
    for kind, column in ((BANDS, "key"), (CONTENTS, "low")):
        for path in sorted((Path(index.run) / kind).glob("*.arrow")):
            pages += view.pages(kind, int(path.stem), np.unique(read_run(path)[column]))
    return pages * PAGE_BYTES


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
