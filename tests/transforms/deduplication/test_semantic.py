"""Semantic deduplication as a pipeline: against brute force, and the same bytes however the work is cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.runner import RayRunner
from tests.transforms.deduplication.vector_sets import (
    brute_force,
    clustered,
    find_edges,
    pairs_in,
    rounded,
    write_vectors,
)
from transforms.coders import from_ipc
from transforms.deduplication.centroids import Centroids
from transforms.deduplication.semantic import SemanticParams
from transforms.deduplication.vector_documents import VectorError

COUNT, WIDTH = 600, 48
IDS = [f"v{row:04d}" for row in range(COUNT)]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    found = clustered(COUNT, WIDTH, 3)
    found[[5, 77, 300]] = found[9]  # equal vectors
    return found


def test_one_cluster_finds_what_brute_force_finds(vectors: np.ndarray, tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.parquet", IDS, vectors)
    found = pairs_in(find_edges([path], tmp_path / "out", SemanticParams(clusters=1)))
    assert set(found) == brute_force(IDS, rounded(vectors), "0.95")
    assert len(found) > 50
    equal = {pair for pair, similarity in found.items() if similarity == 1.0}
    assert equal == {("v0005", "v0009"), ("v0005", "v0077"), ("v0005", "v0300")}
    a, b = "v0005", next(b for a, b in found if a == "v0005" and (a, b) not in equal)
    one, other = vectors[5].astype(float), vectors[int(b[1:])].astype(float)
    assert found[a, b] == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=2e-3)


def test_clusters_find_part_of_it_and_nothing_else(vectors: np.ndarray, tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.parquet", IDS, vectors)
    truth = brute_force(IDS, rounded(vectors), "0.95")
    all_of_three, some_of_three, one = (
        set(pairs_in(find_edges([path], tmp_path / f"{n}-{m}", SemanticParams(clusters=6, nearest=n, margin=m))))
        for n, m in ((3, 10.0), (3, 0.3), (1, 10.0))
    )
    assert one <= some_of_three <= all_of_three <= truth
    assert len(some_of_three) >= 0.95 * len(truth)


def test_same_bytes_for_any_order_files_runner_and_device(vectors: np.ndarray, tmp_path: Path) -> None:
    params = SemanticParams(clusters=5)
    whole = write_vectors(tmp_path / "a.parquet", IDS, vectors)
    expected = find_edges([whole], tmp_path / "expected", params)
    assert expected.num_rows > 50
    order = np.random.default_rng(1).permutation(COUNT)
    cut = [
        write_vectors(tmp_path / f"cut{i}.parquet", [IDS[row] for row in rows], vectors[rows], 37)
        for i, rows in enumerate(np.array_split(order, 3))
    ]
    centroids = (tmp_path / "expected" / "centroids").read_bytes()
    torch = SemanticParams(clusters=5, device="torch", gpus=0.5, partitions=3)
    for name, paths, given, runner in (
        ("order", cut, params, "FnApiRunner"),
        ("torch", cut[::-1], torch, "FnApiRunner"),
        ("ray", cut, params, RayRunner()),
    ):
        flags = ("--ray_workers_max=2",) if name == "ray" else ()
        assert find_edges(paths, tmp_path / name, given, runner=runner, flags=flags).equals(expected), name
        assert (tmp_path / name / "centroids").read_bytes() == centroids, name


def test_equal_vectors_are_one_star(tmp_path: Path) -> None:
    ids = [f"e{row:05d}" for row in range(10_000)]
    path = write_vectors(tmp_path / "a.parquet", ids, np.tile(np.float32([1, -2, 3]), (len(ids), 1)))
    found = pairs_in(find_edges([path], tmp_path / "out", SemanticParams()))
    assert found == dict.fromkeys((("e00000", name) for name in ids[1:]), 1.0)


def test_silent_vectors_are_reported(tmp_path: Path) -> None:
    values = [[1.0, 0.0], None, [0.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0], [2.0, 0.0], [1.0, None]]
    table = pa.table({"id": [*"abcdefg"], "vector": pa.array(values, pa.list_(pa.float32()))})
    pq.write_table(table, tmp_path / "a.parquet")
    found = find_edges([str(tmp_path / "a.parquet")], tmp_path / "out", SemanticParams())
    assert pairs_in(found) == {("a", "f"): 1.0}
    rows = [row for path in (tmp_path / "out").glob("abstained-*") for row in from_ipc(path.read_bytes()).to_pylist()]
    assert [(row["id"], row["reason"], row["row"]) for row in rows] == [
        ("b", "absent", 1),
        ("c", "zero", 2),
        ("d", "not_finite", 3),
        ("e", "not_finite", 4),
        ("g", "not_finite", 6),
    ]
    assert {row["file"] for row in rows} == {str(tmp_path / "a.parquet")}


def test_nothing_but_silent_vectors(tmp_path: Path) -> None:
    path = write_vectors(tmp_path / "a.parquet", ["a", "b"], np.zeros((2, 4), np.float32))
    assert find_edges([path], tmp_path / "out", SemanticParams()).num_rows == 0


def test_files_of_different_models(tmp_path: Path) -> None:
    paths = [write_vectors(tmp_path / f"{n}.parquet", ["a"], np.ones((1, n), np.float32)) for n in (3, 4)]
    with pytest.raises(Exception, match=r"different lengths: 3 in .*3.parquet, row 0; 4 in .*4.parquet, row 0"):
        find_edges(paths, tmp_path / "out", SemanticParams())


def test_frozen_centroids_compare_a_second_batch_as_the_whole(vectors: np.ndarray, tmp_path: Path) -> None:
    half = COUNT // 2
    a = write_vectors(tmp_path / "a.parquet", IDS[:half], vectors[:half])
    b = write_vectors(tmp_path / "b.parquet", IDS[half:], vectors[half:])
    params = SemanticParams(clusters=4)
    first = find_edges([a], tmp_path / "first", params)
    Centroids.from_bytes((tmp_path / "first" / "centroids").read_bytes()).save(tmp_path / "kept.arrow")
    frozen = Centroids.load(tmp_path / "kept.arrow")
    both = find_edges([a, b], tmp_path / "both", params, frozen)
    again = find_edges([a], tmp_path / "again", params, frozen)
    assert again.equals(first)
    assert set(pairs_in(first)) < set(pairs_in(both))
    with pytest.raises(VectorError, match=r"b.parquet: the vector of row 0 has 48 entries, not 3; deduplicate"):
        find_edges([b], tmp_path / "wrong", params, Centroids(np.ones((1, 3), np.int8)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cosine": 1.5}, "cosine threshold is 1.5; need 0 < cosine <= 1"),
        ({"cosine": 0.95001}, "0.95001 has more than four decimals; round it, to 0.9500"),
        ({"nearest": 0}, "semantic.nearest is 0; need at least 1"),
        ({"margin": -0.1}, "semantic.margin is -0.1; need at least 0"),
        ({"clusters": 0}, "semantic.clusters is 0; need 1 to semantic.sample, 16384"),
        ({"device": "tpu"}, "semantic.device is 'tpu'; use"),
    ],
)
def test_wrong_parameters(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticParams(**given)  # type: ignore[arg-type]
