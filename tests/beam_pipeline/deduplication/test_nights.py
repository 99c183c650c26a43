"""A search that goes on night by night comes to what one full run comes to, and takes back nothing."""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.deduplication.job import DedupConfig, run_dedup
from beam_pipeline.deduplication.tables import RepeatedId, WriteBatches, read_batches
from beam_pipeline.output_folder import OutputError
from transforms.deduplication.deciding_duplicates import DUPLICATE_ROWS, EDGE_ROWS, DecideParams
from transforms.deduplication.night_index import IndexView
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.similar_documents import LshParams
from transforms.deduplication.text_deduplicator import FindDuplicates
from transforms.deduplication.text_documents import StoreTexts, TextParams

CONFIG = DedupConfig(DocumentColumns("text", "id", quality="quality"), lsh=LshParams(max_bucket=4, partitions=3))
WORDS = [f"w{i}" for i in range(300)]


def corpus(seed: int, count: int) -> list[dict[str, object]]:
    """Families of near copies (one larger than a bucket), exact copies and strangers, shuffled."""
    random_ = random.Random(seed)
    rows = []
    for family in range(count // 6):
        base = random_.choices(WORDS, k=60)
        for _ in range(6 if family else 40):
            text = list(base)
            for _ in range(random_.choice((0, 0, 1, 2, 3))):
                text[random_.randrange(60)] = random_.choice(WORDS)
            rows.append(" ".join(text))
    random_.shuffle(rows)
    return [{"id": f"d{i:04d}", "text": t, "quality": random_.choice((None, 0.5, 1.0))} for i, t in enumerate(rows)]


def write(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("quality", pa.float64())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, row_group_size=17)
    return path


def by_nights(folder: Path, nights: Sequence[Sequence[dict[str, object]]]) -> Path:
    for number, rows in enumerate(nights):
        path = write(folder / f"night{number}.parquet", rows)
        run_dedup([str(path)], folder / f"out{number}", CONFIG, "FnApiRunner", index=folder / "index")
    return folder / "index"


def components(pairs: set[tuple[str, str]]) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for a, b in pairs:
        joined = groups.get(a, {a}) | groups.get(b, {b})
        for member in joined:
            groups[member] = joined
    return {frozenset(group) for group in groups.values()}


def index_pairs(index: Path) -> set[tuple[str, str]]:
    """All verified pairs of an index by ids, read from its files alone."""
    paths = sorted(str(path) for path in index.glob("night=*/documents/*.arrow"))
    ids = [pa.ipc.open_file(path).read_all().column("id").to_pylist() for path in paths]
    found = set()
    for path in index.glob("night=*/edges.arrow"):
        for row in pa.ipc.open_file(str(path)).read_all().to_pylist():
            low, high = sorted(ids[end >> 32][end & 0xFFFFFFFF] for end in (row["a"], row["b"]))
            found.add((low, high))
    return found


def full_run(folder: Path, nights: Sequence[Sequence[dict[str, object]]]) -> set[tuple[str, str]]:
    """The verified pairs of one run over the documents of all nights, which know their nights."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("quality", pa.float64())])
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions()) as pipeline:
        files = [
            pipeline
            | f"Make{night}" >> beam.Create([pa.RecordBatch.from_pylist(list(rows), schema=schema)], reshuffle=False)
            | f"Store{night}" >> beam.ParDo(StoreTexts(str(folder), TextParams(), night)).with_output_types(str)
            for night, rows in enumerate(nights)
        ]
        found = files | beam.Flatten() | FindDuplicates(CONFIG.lsh, DecideParams())
        for table in ("edges", "duplicates"):
            _ = found[table] | f"Write{table}" >> beam.ParDo(WriteBatches(str(folder), table))
    edges = read_batches(folder, "edges", EDGE_ROWS).to_pylist()
    assert read_batches(folder, "duplicates", DUPLICATE_ROWS).num_rows > 0
    return {(row["a"], row["b"]) for row in edges}


@pytest.mark.parametrize("seed", [1])
def test_many_nights_find_the_pairs_and_clusters_of_one_full_run(tmp_path: Path, seed: int) -> None:
    rows = corpus(seed, 60)
    nights = [rows[i::4] for i in range(4)]
    pairs = index_pairs(by_nights(tmp_path, nights))
    assert pairs == full_run(tmp_path / "full", nights)
    once = index_pairs(by_nights_in_one(tmp_path / "once", rows))
    assert components(pairs) == components(once)
    assert max(map(len, components(pairs))) > 4 * CONFIG.lsh.max_bucket


def by_nights_in_one(folder: Path, rows: Sequence[dict[str, object]]) -> Path:
    folder.mkdir()
    return by_nights(folder, [rows])


def test_what_stayed_stays_though_a_better_copy_comes(tmp_path: Path) -> None:
    text = " ".join(random.Random(5).choices(WORDS, k=60))
    first = [{"id": "a", "text": text, "quality": 0.1}, {"id": "b", "text": text, "quality": 0.0}]
    second = [{"id": "0", "text": text, "quality": 1.0}, {"id": "c", "text": "another text", "quality": 1.0}]
    by_nights(tmp_path, [first, second])
    kept = pq.read_table(tmp_path / "out1/kept.parquet").column("id").to_pylist()
    gone = pq.read_table(tmp_path / "out1/duplicates.parquet").to_pylist()
    assert kept == ["c"]
    assert [(row["id"], row["duplicate_of"], row["channel"]) for row in gone] == [("0", "a", "exact")]
    (cluster,) = pq.read_table(tmp_path / "out1/clusters.parquet").to_pylist()
    assert cluster == {"cluster_id": "0", "documents": 3, "kept": 1, "dropped": 2}


def test_the_newest_night_again_comes_to_the_same_bytes(tmp_path: Path) -> None:
    rows = corpus(3, 24)
    index = by_nights(tmp_path, [rows[::2], rows[1::2]])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "summary.json"}
    run_dedup([str(tmp_path / "night1.parquet")], tmp_path / "out1", CONFIG, "FnApiRunner", index=index)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "summary.json"}
    assert after == before


def test_a_night_that_was_not_committed_leaves_no_trace(tmp_path: Path) -> None:
    rows = corpus(4, 24)
    index = by_nights(tmp_path, [rows[::2], rows[1::2]])
    expected = index_pairs(index)
    (index / "manifests/00000001.json").unlink()  # as if it had been killed just before
    shutil.rmtree(tmp_path / "out1")
    run_dedup([str(tmp_path / "night1.parquet")], tmp_path / "out1", CONFIG, "FnApiRunner", index=index)
    assert index_pairs(index) == expected


def test_an_older_night_other_settings_and_known_ids_are_refused(tmp_path: Path) -> None:
    rows = corpus(6, 18)
    index = by_nights(tmp_path, [rows[::2], rows[1::2]])
    again = [str(tmp_path / "night0.parquet")]
    with pytest.raises(OutputError, match=r"night 0 in .*whose newest is 1; only the newest can be run again"):
        run_dedup(again, tmp_path / "out2", CONFIG, "FnApiRunner", index=index)
    other = DedupConfig(CONFIG.columns, lsh=LshParams(threshold=0.8, max_bucket=4, partitions=3))
    with pytest.raises(OutputError, match=r"made with .*threshold 0.7.*this run has .*threshold 0.8"):
        run_dedup(again, tmp_path / "out3", other, "FnApiRunner", index=index)
    known = write(tmp_path / "known.parquet", [{"id": rows[0]["id"], "text": "some other text", "quality": None}])
    with pytest.raises(RepeatedId, match=f"id '{rows[0]['id']}' is that of a document of an earlier night"):
        run_dedup([str(known)], tmp_path / "out4", CONFIG, "FnApiRunner", index=index)
    assert len(list((index / "manifests").glob("*.json"))) == 2


def test_runs_are_merged_so_that_few_are_looked_up(tmp_path: Path) -> None:
    rows = corpus(7, 48)
    index = by_nights(tmp_path, [rows[i::5] for i in range(5)])
    assert sorted(path.name for path in (index / "runs").iterdir()) == ["00000-00003"]
    assert IndexView().first_new_row == 0
