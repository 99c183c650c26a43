"""Sums, quantiles and their bytes against NumPy and exact fractions; real columns, and values made to hurt."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from pathlib import Path
from random import Random

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms import value_histogram
from transforms.column_summary import WIDEST, ColumnSummary, decode_summary, encode_summary, matrices, summarise_column
from transforms.exact_sums import VALUES_AT_ONCE, ExactSums, exact_sums
from transforms.statistics import QUANTILES, CombineColumn, statistics, statistics_file, summarise_pieces
from transforms.value_histogram import BINS, histogram, keys_of, merge, quantile, values_of

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ANY = st.floats() | st.sampled_from([0.0, -0.0, 1.0, 5e-324, -1.7e308, 1.7e308, 0.1])


def stats_of(values: list | np.ndarray | pa.Array) -> dict[str, list]:
    return statistics(summarise_column(values if isinstance(values, pa.Array) else pa.array(values)))


SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
POWERS = st.sampled_from([5e-324, -5e-324 * 2**20, 2.0**-1022, -(2.0**1023), 1.0, 0.0])


@given(st.lists(FINITE, min_size=1, max_size=60) | st.lists(SINGLE | POWERS, min_size=1, max_size=60))
def test_sums_are_those_of_exact_fractions(values: list[float]) -> None:
    (found,) = exact_sums(np.array(values)[:, None])
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    assert (found.count, found.total) == (len(values), sum(exact) * 2**1074)
    assert found.squares == sum(v * v for v in exact) * 2**2148
    assert found.mean() == float(mean)
    variance = sum((v - mean) ** 2 for v in exact) / len(exact)
    below, above = (float(np.nextafter(found.std(), end)) for end in (0.0, np.inf))
    assert Fraction(below) ** 2 <= variance, "within one unit in the last place of the root"
    assert not np.isfinite(above) or variance <= Fraction(above) ** 2


def test_a_mean_that_floats_get_wrong_is_right() -> None:
    values = np.array([1e300, 1.0, -1e300, 1e-300])
    assert np.sum(values) != 1.0
    (found,) = exact_sums(values[:, None])
    assert found.mean() == 0.25
    (offset,) = exact_sums(1e15 + np.array([[0.125], [0.375]]))
    assert (offset.mean(), offset.std()) == (1e15 + 0.25, 0.125)


@given(st.lists(FINITE, min_size=1, max_size=200))
def test_keys_sort_as_values_do_and_come_back(values: list[float]) -> None:
    held = np.array(values)
    keys = keys_of(held)
    np.testing.assert_array_equal(values_of(keys), held)
    ordered = keys[np.argsort(held, kind="stable")]
    assert (ordered[1:] >= ordered[:-1]).all()


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "offset", "heavy", "mixed"]),
    st.sampled_from(["halves", "many"]),
)
def test_any_order_of_merging_gives_the_same_bytes_and_quantiles_within_their_bin(
    seed: int, shape: str, cut: str
) -> None:
    rng = np.random.default_rng(seed)
    values = {
        "normal": lambda: rng.normal(size=40_000),
        "offset": lambda: 90 + 0.1 * rng.normal(size=40_000),
        "heavy": lambda: rng.standard_cauchy(40_000) * 10.0 ** rng.integers(-20, 20, 40_000),
        "mixed": lambda: np.where(rng.random(40_000) < 0.5, 0.0, rng.normal(size=40_000)),
    }[shape]()
    values[rng.integers(0, len(values), 3)] = np.nan
    pieces = np.array_split(values, 2 if cut == "halves" else 7)
    parts = [summarise_column(pa.array(piece)) for piece in pieces]
    whole = encode_summary(summarise_column(pa.array(values)))
    rng.shuffle(parts)
    assert encode_summary(reduce(ColumnSummary.__add__, parts)) == whole
    assert encode_summary(parts[0] + reduce(ColumnSummary.__add__, parts[1:])) == whole
    assert len(decode_summary(whole).dimensions[0].values.keys) <= BINS
    found = statistics(decode_summary(whole))
    finite = values[np.isfinite(values)]
    for name, at in QUANTILES.items():
        error = abs(found[name][0] - np.quantile(finite, at))
        assert error <= found["bin_width"][0] * (1 + 1e-12), (name, error)
    spread = np.quantile(finite, 0.99) - np.quantile(finite, 0.01)
    if shape != "heavy":
        assert found["bin_width"][0] < spread / 500, "narrow beside what it divides"


def test_up_to_the_limit_of_distinct_values_quantiles_are_exact() -> None:
    values = np.random.default_rng(0).permutation(np.repeat(np.sqrt(np.arange(BINS)), 3))
    found = histogram(values)
    assert (found.dropped, len(found.keys)) == (0, BINS)
    assert quantile(found, 0.1).value == np.quantile(values, 0.1)
    more = merge(found, histogram(np.array([-1.0])))
    assert more.dropped > 0 and len(more.keys) <= BINS and more.count == len(values) + 1
    with pytest.raises(ValueError, match="no value was counted; a quantile needs at least one"):
        quantile(value_histogram.EMPTY, 0.5)


@given(st.lists(st.lists(ANY, min_size=2, max_size=2), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_hostile_values_merge_in_any_order(rows: list[list[float]], random: Random) -> None:
    parts = [summarise_column(pa.array([row])) for row in rows]
    whole = encode_summary(summarise_column(pa.array(rows)))
    random.shuffle(parts)
    assert encode_summary(reduce(ColumnSummary.__add__, parts)) == whole
    found = statistics(decode_summary(whole))
    json.dumps(found, allow_nan=False)
    held = np.array(rows)
    assert found["nan"] == np.isnan(held).sum(axis=0).tolist()
    for dimension in range(2):
        finite = held[np.isfinite(held[:, dimension]), dimension]
        assert found["count"][dimension] == len(finite)
        if len(finite):
            assert (found["min"][dimension], found["max"][dimension]) == (finite.min(), finite.max())
            quantiles = [found[name][dimension] for name in QUANTILES]
            assert all(a <= b for a, b in pairwise([finite.min(), *quantiles, finite.max()]))


def test_a_constant_flags_integers_and_what_is_not_finite() -> None:
    constant = stats_of(np.full(100_000, 0.1, np.float32))
    value = float(np.float32(0.1))
    assert all(constant[name] == [value] for name in ("mean", "min", "max", *QUANTILES))
    assert constant["std"] == constant["bin_width"] == [0.0]
    flags = stats_of([True, False, True, True])
    assert (flags["mean"], flags["std"], flags["min"]) == ([0.75], [math.sqrt(3 / 16)], [0.0])
    whole = stats_of(pa.array([1, 2, None, 2**53], pa.int64()))
    assert (whole["null"], whole["count"], whole["max"], whole["q50"]) == ([1], [3], [float(2**53)], [2.0])
    holes = stats_of([[1.0, math.nan], [3.0, math.inf], None, [2.0, -math.inf]])
    assert (holes["count"], holes["nan"], holes["infinite"], holes["null"]) == ([3, 0], [0, 1], [0, 2], [1])
    assert (holes["mean"], holes["q50"], holes["bin_width"]) == ([2.0, None], [2.0, None], [0.0, None])


def test_lists_of_lists_and_rows_of_two_lengths() -> None:
    nested = pa.array([[[1.0, 2.0], [3.0, 4.0]], None, [[5.0, 6.0], [7.0, 8.0]]])
    (found,) = matrices(nested.slice(0, 3))
    assert found.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    (sliced,) = matrices(nested.slice(2, 1))
    assert sliced.tolist() == [[5, 6, 7, 8]]
    ragged = pa.array([[1.0, 2.0], [3.0], [5.0, 6.0], []])
    assert [m.tolist() for m in matrices(ragged)] == [[[]], [[3.0]], [[1.0, 2.0], [5.0, 6.0]]]
    assert statistics(summarise_column(ragged))["count"] == [3, 2]


def test_beam_combines_summaries_to_the_same_file_whatever_their_order() -> None:
    rng = np.random.default_rng(3)
    values = [rng.normal(size=(900, 3)) for _ in range(6)]
    summaries = [summarise_column(pa.array(v.tolist())) for v in values]
    files: list[bytes] = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 3, 1, 0, 2, 4]):
        with TestPipeline() as pipeline:
            _ = (
                pipeline
                | beam.Create([('["a", "b", "c"]', summaries[i]) for i in order])
                | beam.CombinePerKey(CombineColumn())
                | beam.Map(lambda found: statistics_file([found]))
                | beam.Map(_keep)
            )
        files.append(_KEPT.pop())
    assert files[0] == files[1]
    found = json.loads(files[0])["a"]["b"]["c"]
    np.testing.assert_allclose(found["std"], np.vstack(values).std(axis=0), rtol=1e-12)
    assert found["q50"] == np.quantile(np.vstack(values), 0.5, axis=0).tolist()


_KEPT: list[bytes] = []


def _keep(found: bytes) -> None:
    _KEPT.append(found)


def test_published_statistics_are_numpys_on_real_recordings(curated_recordings: Path) -> None:
    found = json.loads((curated_recordings / "statistics.json").read_text())
    assert {name: list(of) for name, of in found.items()} == {
        "bridge": ["widowx"],
        "g1": ["unitree_g1"],
        "gr00t": ["gr1"],
        "isaac": ["franka_isaac_lab_2"],
        "kuka": ["kuka_lwr"],
        "prismax": ["prismax"],
        "so101": ["so101"],
    }
    checked = 0
    for source, ((_, columns),) in ((name, of.items()) for name, of in found.items()):
        steps = ds.dataset(curated_recordings / "transitions" / f"source={source}").to_table()
        assert {"observation.state", "action"} & set(columns)
        for name, stats in columns.items():
            values = np.array([row if isinstance(row, list) else [row] for row in steps[name].drop_null().to_pylist()])
            values = values.astype(np.float64)
            assert stats["null"] == [steps[name].null_count]
            assert stats["count"] == np.isfinite(values).sum(axis=0).tolist()
            for i, column in enumerate(values.T):
                column = column[np.isfinite(column)]
                if not len(column):
                    continue
                assert (stats["min"][i], stats["max"][i]) == (column.min(), column.max())
                assert stats["mean"][i] == pytest.approx(math.fsum(column) / len(column), rel=1e-15)
                exact_spread = math.sqrt(math.fsum((column - stats["mean"][i]) ** 2) / len(column))
                assert stats["std"][i] == pytest.approx(exact_spread, rel=1e-9, abs=1e-300)
                for quantile_name, at in QUANTILES.items():
                    error = abs(stats[quantile_name][i] - np.quantile(column, at))
                    assert error <= stats["bin_width"][i] + 1e-12 * abs(column).max(), (source, name, i)
                    checked += 1
    assert checked > 1000


def test_sums_add_up_to_any_length() -> None:
    values = np.full((3 * 8192 + 5, 1), 1 / 3)
    (found,) = exact_sums(values)
    assert found.mean() == 1 / 3 and found.std() == 0.0
    assert found == sum((exact_sums(values[:8192])[0] for _ in range(3)), ExactSums()) + exact_sums(values[:5])[0]


def test_a_block_of_the_largest_coefficients_is_exact() -> None:
    for value in (float(np.nextafter(1.0, 0.0)), float(np.nextafter(np.float32(1), np.float32(0)))):
        (found,) = exact_sums(np.full((VALUES_AT_ONCE, 1), value))
        assert found.total == VALUES_AT_ONCE * Fraction(value) * 2**1074
        assert found.squares == VALUES_AT_ONCE * Fraction(value) ** 2 * 2**2148


def test_pieces_give_the_summary_of_the_whole() -> None:
    rng = np.random.default_rng(4)
    whole = pa.array([None, *rng.normal(size=(300_000, 4)).tolist()], pa.list_(pa.float32()))
    cuts = [0, 1, 70_000, 70_000, 150_000, len(whole)]
    pieces = [whole.slice(a, b - a) for a, b in pairwise(cuts)]
    assert encode_summary(summarise_pieces(pieces)) == encode_summary(summarise_column(whole))
    assert summarise_pieces([]) == ColumnSummary()


def test_a_column_with_a_wide_row_keeps_nothing_in_any_order() -> None:
    narrow = summarise_column(pa.array([[1.0, 2.0], [3.0, 4.0]]))
    wide = summarise_column(pa.array([[0.0] * (WIDEST + 1), None]))
    nested = summarise_column(pa.array([[[0.0] * WIDEST, [1.0]]]))
    widest = summarise_column(pa.array([[0.0] * WIDEST]))
    assert (narrow.wide, widest.wide, wide.wide, nested.wide) == (False, False, True, True)
    assert narrow + wide == wide + narrow == ColumnSummary(1, wide=True)
    assert decode_summary(encode_summary(narrow + wide)) == narrow + wide
    assert encode_summary(decode_summary(encode_summary(narrow))) == encode_summary(narrow)
