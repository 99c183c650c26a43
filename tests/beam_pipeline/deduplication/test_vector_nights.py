"""A search among vectors that goes on night by night: brute force, one full run and what was published agree."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_pipeline.deduplication import job
from beam_pipeline.deduplication.guardrails import Guardrails
from beam_pipeline.deduplication.job import DedupConfig, GuardrailsBroken, run_dedup
from beam_pipeline.deduplication.tables import WriteBatches, read_batches
from beam_pipeline.output_folder import OutputError
from tests.beam_pipeline.deduplication.test_nights import index_pairs
from tests.transforms.deduplication.vector_sets import brute_force, clustered, rounded
from transforms.deduplication.deciding_duplicates import EDGE_ROWS, DecideParams
from transforms.deduplication.night_index import IndexView
from transforms.deduplication.parquet_documents import DocumentColumns
from transforms.deduplication.semantic import SemanticParams
from transforms.deduplication.text_deduplicator import Night
from transforms.deduplication.vector_deduplicator import VectorDeduplicator
from transforms.deduplication.vector_documents import VectorError

WIDTH = 32
CONFIG = DedupConfig(
    DocumentColumns(id="id", vector="vector", quality="quality"), semantic=SemanticParams(clusters=4, partitions=3)
)
ONE_CLUSTER = replace(CONFIG, semantic=SemanticParams(clusters=1, partitions=2))
Rows = Sequence[dict[str, object]]


def corpus(seed: int, nights: int, count: int = 90) -> list[list[dict[str, object]]]:
    """Nights of like, equal and unlike vectors; ids of earlier nights are smaller."""
    vectors = clustered(count, WIDTH, seed)
    vectors[count // 2 :: 7] = vectors[: len(vectors[count // 2 :: 7])]  # equal ones, some in other nights
    rows = [{"vector": vector.tolist(), "quality": float(row % 3)} for row, vector in enumerate(vectors)]
    return [
        [{"id": f"n{night}-{row:03d}", **held} for row, held in enumerate(rows[night::nights])]
        for night in range(nights)
    ]


def write(path: Path, rows: Rows) -> Path:
    schema = pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32())), ("quality", pa.float64())])
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, row_group_size=17)
    return path


def by_nights(folder: Path, nights: Sequence[Rows], config: DedupConfig = CONFIG) -> Path:
    for number, rows in enumerate(nights):
        path = write(folder / f"night{number}.parquet", rows)
        run_dedup([str(path)], folder / f"out{number}", config, "FnApiRunner", index=folder / "index")
    return folder / "index"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "summary.json"}


def full_run(folder: Path, nights: Sequence[Rows], centroids: Path) -> set[tuple[str, str]]:
    """The pairs of one run over all nights, with the same centroids."""
    with beam.Pipeline(FnApiRunner(), options=PipelineOptions()) as pipeline:
        stored = [
            pipeline | f"Make{number}" >> beam.Create([pa.RecordBatch.from_pylist(list(rows))], reshuffle=False)
            for number, rows in enumerate(nights)
        ]
        night = Night(index=IndexView(centroids=str(centroids)))
        batches = stored | beam.Flatten()
        found = batches | VectorDeduplicator(str(folder), CONFIG.semantic, DecideParams(), night)
        _ = found["edges"] | beam.ParDo(WriteBatches(str(folder), "edges"))
    edges = read_batches(folder, "edges", EDGE_ROWS).to_pylist()
    return {(row["a"], row["b"]) for row in edges}


def test_nights_in_one_cluster_find_what_brute_force_finds(tmp_path: Path) -> None:
    nights = corpus(1, 3)
    found = index_pairs(by_nights(tmp_path, nights, ONE_CLUSTER))
    rows = [row for night in nights for row in night]
    vectors = np.array([row["vector"] for row in rows], np.float32)
    assert found == brute_force([str(row["id"]) for row in rows], rounded(vectors), "0.95")
    between = [pair for pair in found if pair[0][:2] != pair[1][:2]]
    assert len(found) > len(between) > 5


def test_nights_find_the_pairs_of_one_full_run_with_their_centroids(tmp_path: Path) -> None:
    nights = corpus(2, 5, 200)
    index = by_nights(tmp_path, nights)
    kept = list(index.rglob("centroids.arrow"))
    assert [path.relative_to(index).as_posix() for path in kept] == ["night=00000/run/centroids.arrow"]
    pairs = full_run(tmp_path / "full", nights, kept[0])
    assert index_pairs(index) == pairs
    assert len(pairs) > 30
    kept_ids, dropped = set(), []
    for number in range(len(nights)):
        kept_ids |= set(pq.read_table(tmp_path / f"out{number}/kept.parquet").column("id").to_pylist())
        dropped += pq.read_table(tmp_path / f"out{number}/duplicates.parquet").to_pylist()
    # quality would choose later ones, but what an earlier night kept stays
    assert len(kept_ids) + len(dropped) == 200
    assert {row["duplicate_of"] for row in dropped} <= kept_ids
    assert min(row["similarity"] for row in dropped) >= 0.95
    assert sorted(path.name for path in (index / "runs").iterdir()) == ["00000-00003"]


def test_what_stayed_stays_though_a_better_copy_comes(tmp_path: Path) -> None:
    vector = np.random.default_rng(1).standard_normal(WIDTH)
    near = vector + 0.01 * np.random.default_rng(2).standard_normal(WIDTH)
    first = [{"id": "b", "vector": vector.tolist(), "quality": 0.0}]
    second = [
        {"id": "a", "vector": near.tolist(), "quality": 1.0},
        {"id": "c", "vector": vector.tolist(), "quality": 1.0},
        {"id": "d", "vector": (-vector).tolist(), "quality": 1.0},
    ]
    by_nights(tmp_path, [first, second])
    gone = pq.read_table(tmp_path / "out1/duplicates.parquet").to_pylist()
    assert [(row["id"], row["duplicate_of"], row["channel"]) for row in gone] == [
        ("a", "b", "semantic"),
        ("c", "b", "exact"),
    ]
    assert pq.read_table(tmp_path / "out0/kept.parquet").column("id").to_pylist() == ["b"]
    assert pq.read_table(tmp_path / "out1/kept.parquet").column("id").to_pylist() == ["d"]


def test_nights_whose_edges_do_not_fit_in_memory_come_to_the_same_bytes(tmp_path: Path) -> None:
    nights = corpus(7, 3)
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    by_nights(few, nights)
    by_nights(many, nights, replace(CONFIG, decide=DecideParams(edges_in_memory=0)))
    # documents name the file that they came from
    ours, others = (
        {path.relative_to(folder): data for path, data in files(folder).items() if path.parent.name != "documents"}
        for folder in (few, many)
    )
    assert ours == others and len(ours) > 30
    gone = pq.read_table(many / "out2/duplicates.parquet").column("channel").to_pylist()
    assert {"semantic", "exact"} == set(gone)


def test_a_night_that_ends_before_its_edges_are_decided_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nights, config = corpus(8, 2), replace(CONFIG, decide=DecideParams(edges_in_memory=0))
    index = by_nights(tmp_path, nights, config)
    expected = files(tmp_path)
    shutil.rmtree(tmp_path / "index")
    by_nights(tmp_path, nights[:1], config)

    def killed(*_: object) -> None:
        raise RuntimeError("killed")

    night = [[str(tmp_path / "night1.parquet")], tmp_path / "out1", config, "FnApiRunner"]
    with monkeypatch.context() as during:
        during.setattr(job, "_decide", killed)
        with pytest.raises(RuntimeError, match="killed"):
            run_dedup(*night, index=index)
    assert list((index / "night=00001" / "unjoined").iterdir())
    run_dedup(*night, index=index)
    assert files(tmp_path) == expected


@pytest.mark.parametrize("count", [1, 2])
def test_the_newest_night_again_comes_to_the_same_bytes(tmp_path: Path, count: int) -> None:
    index = by_nights(tmp_path, corpus(3, count))
    before = files(tmp_path)
    newest = count - 1
    path = tmp_path / f"night{newest}.parquet"
    run_dedup([str(path)], tmp_path / f"out{newest}", CONFIG, "FnApiRunner", index=index)
    assert files(tmp_path) == before


def test_a_night_that_was_not_committed_leaves_nothing(tmp_path: Path) -> None:
    nights = corpus(4, 3)
    by_nights(tmp_path, nights)
    expected = files(tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    shutil.rmtree(tmp_path / "out2")
    index = by_nights(tmp_path, nights[:2])
    (tmp_path / "night2.parquet").unlink()
    write(tmp_path / "night2.parquet", nights[2])
    strict = replace(CONFIG, guardrails=Guardrails(max_removed=0.0))
    with pytest.raises(GuardrailsBroken, match="the input loses"):
        run_dedup([str(tmp_path / "night2.parquet")], tmp_path / "out2", strict, "FnApiRunner", index=index)
    assert len(list((index / "manifests").iterdir())) == 2
    run_dedup([str(tmp_path / "night2.parquet")], tmp_path / "out2", CONFIG, "FnApiRunner", index=index)
    assert files(index) == expected


def test_the_first_night_with_vectors_sets_the_centroids(tmp_path: Path) -> None:
    silent: Rows = [{"id": "x", "vector": None, "quality": 0.0}, {"id": "y", "vector": [0.0] * WIDTH, "quality": 0.0}]
    nights = corpus(5, 2)
    index = by_nights(tmp_path, [silent, *nights])
    assert [path.parts[-3] for path in index.rglob("centroids.arrow")] == ["night=00001"]
    assert pq.read_table(tmp_path / "out0/kept.parquet").column("id").to_pylist() == ["x", "y"]
    assert json.loads((tmp_path / "out0/summary.json").read_text())["without_vector"] == 2
    assert index_pairs(index) == index_pairs(by_nights_elsewhere(tmp_path / "other", nights))


def by_nights_elsewhere(folder: Path, nights: Sequence[Rows]) -> Path:
    folder.mkdir()
    return by_nights(folder, nights)


def test_other_settings_and_vectors_of_another_model_are_refused(tmp_path: Path) -> None:
    index = by_nights(tmp_path, corpus(6, 1))
    again = write(tmp_path / "more.parquet", [{"id": "z", "vector": [1.0] * 8, "quality": 0.0}])
    other = replace(CONFIG, semantic=SemanticParams(cosine=0.9, clusters=4, partitions=3))
    with pytest.raises(
        OutputError, match=r"made with vectors, threshold 0.95, .* this run has vectors, threshold 0.9,"
    ):
        run_dedup([str(again)], tmp_path / "out1", other, "FnApiRunner", index=index)
    of_texts = DedupConfig(DocumentColumns("id", "id"))
    with pytest.raises(OutputError, match=r"made with vectors, .* this run has 5-grams"):
        run_dedup([str(again)], tmp_path / "out1", of_texts, "FnApiRunner", index=index)
    with pytest.raises(VectorError, match=r"more.parquet: the vector of row 0 has 8 entries, not 32; deduplicate"):
        run_dedup([str(again)], tmp_path / "out1", CONFIG, "FnApiRunner", index=index)
    assert len(list((index / "manifests").iterdir())) == 1
