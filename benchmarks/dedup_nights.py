"""A search that goes on for 30 nights: what the last costs beside the second, and whether it found what one run finds.

The texts are benchmarks/dedup_texts.py's, shuffled by a seed and dealt out into nights of equal size, so that copies
come on other nights than what they copy. CPU seconds are of this process and its threads (in-process runner).
"""

from __future__ import annotations

import functools
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from beam_pipeline.deduplication.nights import IndexManifest
from beam_pipeline.output_folder import read_record
from benchmarks.dedup_texts import SEED, blocks
from benchmarks.harness import Bar, Row, timed
from transforms.deduplication.components import minimum_roots
from transforms.deduplication.night_index import BANDS, CONTENTS, PAGE_BYTES, IndexView, read_arrow, read_run
from transforms.deduplication.parquet_documents import DocumentColumns

NIGHTS, NIGHT_DOCUMENTS = 30, 20_000
TURNS = 5
"""Of the nights that are compared: the newest night may be run again, and then does the same."""
_CONFIG = DedupConfig(DocumentColumns("text", "id"))
_RATIO, _DIFFER = "night 30 over night 2", "clusters that differ"


def rows(quick: bool) -> list[Row]:
    """Run all nights, then all of it at once."""
    size = 300 if quick else NIGHT_DOCUMENTS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write_nights(folder, NIGHTS if not quick else 5, size)
        spent: list[float] = []
        compared: list[int] = []
        for n, file in enumerate(files):
            turns = TURNS if n in (1, len(files) - 1) else 1
            night = functools.partial(_night, file, folder / f"out{n}", folder / "index", compared)
            spent.append(statistics.median(timed(night) for _ in range(turns)))
        read = _bytes_read(folder / "index", len(files) - 1) / size
        whole = timed(lambda: run_dedup([str(f) for f in files], folder / "whole", _CONFIG))
        ours, one = _roots(_index_pairs(folder / "index")), _roots(_whole_pairs(folder / "whole"))
        differ = len(set(ours.items()) ^ set(one.items()))
        pairs = pq.read_metadata(folder / "whole/edges.parquet").num_rows
        size_mb = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file()) / 1e6
    last, slowest = len(spent), int(np.argmax(spent)) + 1
    note = f"{last} nights of {size:,} texts, seed {SEED}"
    return [
        Row("night 2", spent[1], "s", f"CPU, median of {TURNS} turns; {note}"),
        Row(
            "night 30",
            spent[-1],
            "s",
            f"CPU, median of {TURNS} turns" + ("" if last == NIGHTS else f"; here night {last}"),
        ),
        Row(_RATIO, spent[-1] / spent[1], "x"),
        Row("median of all nights", statistics.median(spent), "s", "CPU"),
        Row("slowest night", max(spent), "s", f"CPU; night {slowest}: runs of 2^n nights are merged after 2^n nights"),
        Row(
            "index read per new text, last night", read, "bytes", "4 KiB pages of bands and contents that hold its keys"
        ),
        Row("index", size_mb, "MB", f"on disk, of {last * size:,} texts with their shingles"),
        Row("all nights", sum(spent), "s", "CPU"),
        Row("candidates, night 2", compared[TURNS], "pairs", "compared by their shingles"),
        Row("candidates, last night", compared[-1], "pairs", "copies are spread over all nights"),
        Row("all at once", whole, "s", "CPU; one run over the same files without an index"),
        Row(_DIFFER, differ, "texts", f"of {pairs:,} verified pairs in one run: whose cluster is another"),
    ]


def bars() -> list[Bar]:
    """A night costs by its own size, and 30 nights give the clusters of one run."""
    return [Bar(_RATIO, "max", 1.3), Bar(_DIFFER, "max", 0)]


def _night(file: Path, output: Path, index: Path, compared: list[int]) -> None:
    compared.append(run_dedup([str(file)], output, _CONFIG, index=index).candidates)


def _write_nights(folder: Path, nights: int, size: int) -> list[Path]:
    table = pa.Table.from_batches(blocks(nights * size))
    order = np.random.default_rng([SEED, 99]).permutation(table.num_rows)
    files = []
    for night in range(nights):
        files.append(folder / f"night{night:02d}.parquet")
        own = table.take(pa.array(order[night * size : (night + 1) * size]))
        pq.write_table(own, files[-1], row_group_size=5000)
    return files


def _bytes_read(index: Path, night: int) -> int:
    """What a night's keys touched of the runs that were there before it."""
    before = read_record(index / "manifests" / f"{night - 1:08d}.json", IndexManifest).view(index)
    run = index / f"night={night:05d}" / "run"
    pages = 0
    for kind, column in ((BANDS, "key"), (CONTENTS, "low")):
        for path in sorted((run / kind).glob("*.arrow")):
            keys = np.unique(read_run(path)[column])
            pages += before.pages(kind, int(path.stem), keys)
    return pages * PAGE_BYTES


def _index_pairs(index: Path) -> tuple[pa.Array, pa.Array]:
    """The ids of both ends of all pairs of an index."""
    newest = read_record(sorted((index / "manifests").glob("*.json"))[-1], IndexManifest)
    view = newest.view(index)
    ids = [pa.ipc.open_file(path).read_all().column("id").combine_chunks() for path in view.documents]
    starts = np.cumsum([0, *map(len, ids)])
    named = pa.concat_arrays(ids)
    ends = [np.concatenate([_rows(view, end)]) for end in ("a", "b")]
    a, b = (named.take(pa.array(starts[rows >> 32] + (rows & 0xFFFFFFFF))) for rows in ends)
    return a, b


def _rows(view: IndexView, end: str) -> np.ndarray:
    return np.concatenate([batch.column(end).to_numpy() for path in view.edges for batch in read_arrow(path)])


def _whole_pairs(output: Path) -> tuple[pa.Array, pa.Array]:
    table = pq.read_table(output / "edges.parquet")
    a, b = (table.column(end).combine_chunks() for end in ("a", "b"))
    return a, b


def _roots(pairs: Iterable[pa.Array]) -> dict[str, str]:
    """Each end of the pairs and the smallest id of its cluster."""
    a, b = pairs
    names = pc.unique(pa.concat_arrays([a, b])).sort()
    places = [pc.index_in(end, names).to_numpy() for end in (a, b)]
    roots = minimum_roots(len(names), *(place.astype(np.int64) for place in places))
    return dict(zip(names.to_pylist(), names.take(pa.array(roots)).to_pylist(), strict=True))
