"""Rows of int8, their exact products and thresholds, and the sieve that may not lose a pair."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.deduplication.vector_sets import clustered, rounded, row_hashes
from transforms.deduplication.centroids import NO_SAMPLE, Centroids, Sample, cluster_count, merged, train
from transforms.deduplication.quantised import Threshold, cosines, quantise, squared_norms
from transforms.deduplication.vector_blocks import cluster_rows, nearest_column
from transforms.deduplication.vector_pairs import first_shared, like_pairs
from transforms.deduplication.vector_products import (
    NONE,
    arrays_of,
    exact_products,
    nearest,
    orthonormal,
    paired_products,
)


def test_quantise_by_hand() -> None:
    rows = quantise(np.float32([[0.5, -1.0, 0.25], [1e-45, 0, 0], [3e38, -3e38, 0]]))
    assert rows.tolist() == [[64, -127, 32], [127, 0, 0], [127, -127, 0]]
    vectors = clustered(50, 20, 1)
    assert quantise(vectors).tolist() == rounded(vectors)


@settings(max_examples=300, deadline=None)
@given(st.integers(-(2**30) + 1, 2**30 - 1), st.integers(1, 2**60 - 1), st.integers(1, 10_000), st.integers(1, 10_000))
def test_threshold_is_that_of_whole_numbers(dot: int, squares: int, one: int, other: int) -> None:
    threshold = Threshold(min(one, other), max(one, other))
    expected = dot > 0 and Fraction(dot**2, squares) >= Fraction(threshold.numerator, threshold.denominator) ** 2
    assert threshold.reached(np.array([dot]), np.array([squares])).tolist() == [expected]


def test_threshold_at_equality() -> None:
    dots, squares = np.array([19, 18, -19, 2**29 * 19 // 20]), np.array([400, 400, 400, 2**58])
    assert Threshold.of(0.95).reached(dots, squares).tolist() == [True, False, False, False]


def test_similarity_one_is_for_equal_rows() -> None:
    assert cosines(np.array([2**24 - 1]), np.array([(2**24 - 1) ** 2 + 1])).tolist()[0] < 1.0


@pytest.mark.parametrize("width", [7, 384, 1040, 1041, 4096])
def test_products_are_exact(width: int) -> None:
    rng = np.random.default_rng(width)
    left, right = (rng.choice([-127, 127, 3], (5, width)).astype(np.int8) for _ in range(2))
    left[0] = right[0] = 127
    truth = left.astype(np.int64) @ right.astype(np.int64).T
    for device in ("cpu", "torch"):
        arrays = arrays_of(device)  # type: ignore[arg-type]
        assert np.array_equal(arrays.back(exact_products(left, right, arrays)).astype(np.int64), truth), device
    assert np.array_equal(paired_products(left, right), truth.diagonal())
    assert np.array_equal(squared_norms(left), (left.astype(np.int64) ** 2).sum(axis=1))


def test_ties_go_to_the_lower_centroid() -> None:
    centroids = Centroids(np.int8([[0, 127], [127, 0], [127, 0], [0, 127]]))
    rows = np.int8([[127, 127], [127, 1]])
    for device in ("cpu", "torch"):
        found = nearest(rows, centroids.rows, centroids.weights, 3, arrays_of(device))  # type: ignore[arg-type]
        assert found.tolist() == [[0, 1, 2], [1, 2, 0]], device


def test_centroids_that_fall_short_by_more_than_the_margin_are_none() -> None:
    centroids = Centroids(np.int8([[127, 0], [0, 127], [90, 90]]))
    rows = np.int8([[127, 10], [127, 127], [-50, -50]])  # cosines .997 .079 .760; .707 .707 1; -.707 -.707 -1
    expected = {
        0.0: [[0, NONE, NONE], [2, NONE, NONE], [0, 1, NONE]],
        0.23: [[0, NONE, NONE], [2, NONE, NONE], [0, 1, NONE]],
        0.24: [[0, 2, NONE], [2, NONE, NONE], [0, 1, NONE]],
        0.3: [[0, 2, NONE], [2, 0, 1], [0, 1, 2]],
    }
    for device in ("cpu", "torch"):
        arrays = arrays_of(device)  # type: ignore[arg-type]
        for margin, near in expected.items():
            found = nearest(rows, centroids.rows, centroids.weights, 3, arrays, margin)
            assert found.tolist() == near, (device, margin)


@pytest.mark.parametrize(("count", "width"), [(300, 200), (1500, 200), (2100, 130), (700, 1100)])
@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("dense", [False, True])
def test_no_pair_is_lost_in_tiles(count: int, width: int, device: str, dense: bool) -> None:
    vectors = clustered(count, width, count)
    if dense:
        vectors += 40 * vectors[0]
    rows = np.unique(quantise(vectors), axis=0)
    whole = rows.astype(np.int64) @ rows.astype(np.int64).T
    squares = np.outer(whole.diagonal(), whole.diagonal())
    a, b = np.nonzero(np.triu((whole > 0) & (whole**2 * 400 >= 361 * squares), 1))
    found = [
        pair
        for low in range(0, len(rows), 900)
        for part in like_pairs(rows, low, min(low + 900, len(rows)), Threshold.of(0.95), arrays_of(device))  # type: ignore[arg-type]
        for pair in zip(part.a.tolist(), part.b.tolist(), strict=True)
    ]
    assert len(found) == len(set(found)) > 0
    assert set(found) == set(zip(a.tolist(), b.tolist(), strict=True))


@pytest.mark.parametrize("rank", [1, 39, 40])
def test_directions_are_orthonormal_even_of_dependent_columns(rank: int) -> None:
    rng = np.random.default_rng(rank)
    columns = rng.standard_normal((384, rank)) @ rng.standard_normal((rank, 40)) * np.geomspace(1, 1e-6, 40)
    found = orthonormal(columns)
    assert np.abs(found.T @ found - np.eye(40)).max() < 1e-11
    assert np.abs(columns - found @ (found.T @ columns)).max() < 1e-11  # they span what the columns do


def test_first_shared() -> None:
    one, other = np.int32([[5, 2], [1, 3], [7, NONE], [7, NONE]]), np.int32([[2, 5], [4, 6], [8, 7], [8, NONE]])
    none = np.iinfo(np.int32).max
    assert first_shared(one, other).tolist() == [2, none, 7, none]


def test_a_row_is_in_no_more_clusters_than_it_has() -> None:
    near = np.int32([[4, 1, 9], [1, NONE, NONE], [9, 4, NONE]])
    block = pa.record_batch([pa.array([10, 11, 12]), nearest_column(near)], ["row", "nearest"])
    rows = [row for _, part in cluster_rows(block, 3) for row in part.to_pylist()]
    assert sorted((row["key"], row["row"]) for row in rows) == [(1, 10), (1, 11), (4, 10), (4, 12), (9, 10), (9, 12)]
    assert {tuple(row[f"near{turn}"] for turn in range(3)) for row in rows} == set(map(tuple, near.tolist()))


def test_sample_is_that_of_the_contents() -> None:
    rows = quantise(clustered(400, 16, 2))
    hashes = row_hashes(rows)

    def sample(own: slice) -> Sample:
        return Sample(len(rows[own]), hashes[own], rows[own], ((16, "here"),))

    whole = merged([sample(slice(None))], 50)
    parts = merged([merged([sample(slice(i, None, 3)) for i in (2, 0)], 50), NO_SAMPLE, sample(slice(1, None, 3))], 50)
    assert whole.count == parts.count == 400
    assert np.array_equal(whole.rows, parts.rows) and len(whole.rows) == 50
    assert merged([whole, whole], 50).rows.tolist() == whole.rows.tolist()
    first, second = (train(s, 6, 5, arrays_of(d)) for s, d in ((whole, "cpu"), (parts, "torch")))  # type: ignore[arg-type]
    assert first.revision == second.revision


def test_centroids_follow_the_groups() -> None:
    rows = np.int8([[127, 1], [127, 3], [2, 127], [0, 127]])
    found = train(Sample(4, np.arange(4, dtype=np.uint64), rows[[0, 2, 1, 3]]), 2, 5, arrays_of("cpu"))
    assert found.rows.tolist() == [[127, 2], [1, 127]]


def test_cluster_count() -> None:
    assert [cluster_count(n) for n in (0, 2000, 4096, 200_000, 1_000_000)] == [1, 1, 4, 149, 333]


def test_changed_centroids_are_refused(tmp_path: Path) -> None:
    Centroids(np.int8([[1, 2], [3, 127]])).save(tmp_path / "c.arrow")
    data = bytearray((tmp_path / "c.arrow").read_bytes())
    data[data.index(bytes([1, 2, 3, 127]))] = 9
    with pytest.raises(ValueError, match=r"c.arrow has revision \w+ and says \w+: it was changed"):
        Centroids.from_bytes(bytes(data), "c.arrow")
    with pytest.raises(ValueError, match=r"nothing.arrow holds no centroids"):
        Centroids.from_bytes(b"nothing", "nothing.arrow")


def test_threads_do_not_change_bits() -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from tests.transforms.deduplication.vector_sets import clustered, row_hashes\n"
        "from transforms.deduplication.quantised import *\n"
        "from transforms.deduplication.vector_pairs import like_pairs\n"
        "from transforms.deduplication.centroids import *\n"
        "from transforms.deduplication.vector_products import arrays_of\n"
        "rows = np.unique(quantise(clustered(3000, 200, 1)), axis=0); cpu = arrays_of('cpu')\n"
        "found = train(Sample(len(rows), row_hashes(rows), rows), 20, 5, cpu)\n"
        "pairs = [(p.a, p.b, p.cosine) for p in like_pairs(rows, 0, len(rows), Threshold.of(0.95), cpu)]\n"
        "body = b''.join(x.tobytes() for p in pairs for x in p)\n"
        "print(found.revision, hashlib.sha256(body).hexdigest(), len(pairs))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(told) == 1 and told.pop().split()[-1] != "0"
