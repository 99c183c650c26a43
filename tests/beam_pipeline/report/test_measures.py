"""What a report computes, on numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from beam_pipeline.report.charts import histogram, number, sparks, ticks
from beam_pipeline.report.choose import LONGEST, choose, in_turn
from beam_pipeline.report.distributions import BINS, axis, distribution, low_is_worse, worst_of_each
from beam_pipeline.report.looks import Curve, Look, curves_of, picture_steps
from beam_pipeline.report.outcomes import grand_total, quarantined, reasons, totals
from beam_pipeline.report.tables import BROKEN, PASSED, UNJUDGED, Ledger, Measured
from beam_pipeline.report.text import instant, percent, shorten, visible
from transforms.ledger import LEDGER_SCHEMA


def ledger(*rows: dict[str, object]) -> Ledger:
    empty = dict.fromkeys(LEDGER_SCHEMA.names)
    texts = {"content_id": "c", "stage": "", "rule": "", "unit": "", "detail": "", "uri": ""}
    filled = [{**empty, **texts, **row} for row in rows]
    table = pa.Table.from_pylist(filled, schema=LEDGER_SCHEMA.append(pa.field("source", pa.string())))
    return Ledger(table.combine_chunks())


def row(name: str, outcome: str = "kept", source: str = "s", **more: object) -> dict[str, object]:
    return {"episode_id": name, "outcome": outcome, "source": source, **more}


def measured(
    check: str, values: list[float], episodes: list[int], passed: list[int] | None = None, limit: float = np.nan
) -> Measured:
    verdicts = np.asarray(passed or [UNJUDGED] * len(values), np.int8)
    threshold = np.where(verdicts == UNJUDGED, np.nan, limit)
    return Measured(check, "quality", "s", np.asarray(values), np.asarray(episodes), verdicts, threshold)


def test_totals_count_children_in_place_of_what_was_cut() -> None:
    found = ledger(
        row("a", "cut", n_steps=30, n_children=2, start_ns=0, end_ns=3_000_000_000),
        row("a/0", n_steps=20, parent_id="a", start_ns=0, end_ns=2_000_000_000),
        row("a/1", "rejected", rule="reset_interval", n_steps=10, parent_id="a", start_ns=0, end_ns=1_000_000_000),
        row("b", "quarantined", "t", rule="declared_absent"),
        row("c", "quarantined", "t", rule="truncated", detail="cut off", uri="c.bin"),
    )
    total = grand_total(found)
    assert (total.planned, total.children, total.rows, total.judged, total.present) == (3, 2, 5, 4, 3)
    assert total.adds_up and (total.steps, total.steps_kept) == (30, 20)
    assert (total.seconds, total.seconds_kept) == (3.0, 2.0)
    of_s, of_none, of_t = totals(found, ["s", "none", "t"])
    assert (of_s.planned, of_s.children, of_t.absent, of_none.rows) == (1, 2, 1, 0)
    lost = quarantined(found, 5)
    assert [(rule, count, rows[0].uri) for rule, count, rows in lost] == [
        ("declared_absent", 1, ""),
        ("truncated", 1, "c.bin"),
    ]


def test_a_rule_says_how_many_it_alone_takes_out() -> None:
    found = ledger(
        row("a", "rejected", rule="x", value=3.0, threshold=1.0, n_steps=7),
        row("b", "rejected", rule="x", value=2.0, threshold=1.0, n_steps=5),
        row("c"),
    )
    both = {
        "x": measured("x", [3, 2, 0], [0, 1, 2], [BROKEN, BROKEN, PASSED], 1.0),
        "y": measured("y", [9, 0, 0], [0, 1, 2], [BROKEN, PASSED, PASSED], 1.0),
    }
    (reason,) = reasons(found, both)
    assert (reason.count, reason.broken_by, reason.alone, reason.steps) == (2, 2, 1, 12)
    assert (reason.least, reason.most, list(reason.thresholds)) == (2.0, 3.0, [1.0])
    assert [example.episode_id for example in reason.examples] == ["a", "b"]


def test_which_end_is_worse_follows_the_rule_else_the_check() -> None:
    assert low_is_worse(measured("quality.ldlj", [1.0], [0]))
    assert not low_is_worse(measured("quality.idle_fraction", [1.0], [0]))
    assert low_is_worse(measured("quality.idle_fraction", [3.0, 1.0], [0, 1], [PASSED, BROKEN], 2.0))
    assert not low_is_worse(measured("quality.ldlj", [3.0, 1.0], [0, 1], [BROKEN, PASSED], 2.0))


def test_an_episode_counts_once_with_its_worst_value() -> None:
    worst = worst_of_each(measured("q.x", [0.1, 0.9, 0.5, 0.2], [1, 0, 0, 1]))
    assert (worst.episode.tolist(), worst.value.tolist()) == ([0, 1], [0.9, 0.2])
    lowest = worst_of_each(measured("quality.sparc", [-1.0, -3.0], [0, 0]))
    assert lowest.value.tolist() == [-3.0]
    velocity = worst_of_each(measured("conventions.velocity_scale", [1.1, 0.5], [0, 0]))
    assert velocity.value.tolist() == [0.5], "furthest from 1"


def test_a_distribution_has_its_threshold_and_the_nearest_on_both_sides() -> None:
    found = ledger(row("a"), row("b"), row("c", "rejected"), row("d", "rejected", "t"))
    values = measured("q.x", [0.0, 0.4, 0.6, 1.0], [0, 1, 2, 3], [PASSED, PASSED, BROKEN, BROKEN], 0.5)
    shape = distribution(values, found)
    assert shape.thresholds == [("max", 0.5)] and (shape.low, shape.high) == (0.0, 1.0)
    assert sum(shape.others) == 2 and shape.n_broken == 2 and shape.broken[-1] == 1 and shape.others[0] == 1
    assert [(n.episode_id, n.value, n.passed) for n in shape.nearest] == [("b", 0.4, True), ("c", 0.6, False)]
    assert [(r.source, r.count, r.median) for r in shape.sources] == [("s", 3, 0.4), ("t", 1, 1.0)]
    drawn = histogram(shape)
    (limit,) = drawn.thresholds
    assert limit.label == "max 0.5" and limit.x == pytest.approx((drawn.left + drawn.right) / 2)
    assert [bar.broken for bar in drawn.bars] == [False, False, True, True]
    assert all(drawn.left <= bar.x and bar.x + bar.width <= drawn.right for bar in drawn.bars)


def test_values_that_differ_by_rounding_are_one_value_unless_the_rule_is_among_them() -> None:
    found, gaps = ledger(row("a"), row("b")), [49.99998, 50.00001]
    assert distribution(measured("alignment.max_gap_ms", gaps, [0, 1]), found).constant
    assert distribution(measured("alignment.max_gap_ms", gaps, [0, 1], [PASSED] * 2, 100.0), found).constant
    assert not distribution(measured("alignment.max_gap_ms", gaps, [0, 1], [PASSED, BROKEN], 50.0), found).constant
    assert not distribution(measured("quality.ldlj", gaps, [0, 1]), found).constant


def test_a_far_tail_is_counted_at_the_edge_and_a_threshold_is_always_on_the_axis() -> None:
    values = np.append(np.linspace(0, 1, 999), 1e6)
    low, high = axis(values, [])
    assert low == 0.0 and high < 2
    assert axis(values, [50.0])[1] == 50.0
    assert axis(np.asarray([0.0, 0.0, 3.0]), []) == (0.0, 3.0)
    many = measured("q.x", values.tolist(), list(range(1000)))
    shape = distribution(many, ledger(*(row(f"{i:04d}") for i in range(1000))))
    assert shape.above >= 1 and sum(shape.others) == 1000 and len(shape.others) == BINS and shape.most == 1e6


def test_what_is_shown_goes_through_the_rules_in_turn() -> None:
    assert in_turn([[1, 2, 3], [4, 1, 5], []], 4) == [1, 4, 2, 5]
    found = ledger(
        row("a", "rejected", rule="x", value=9.0, threshold=1.0),
        row("b", "rejected", rule="x", value=5.0, threshold=1.0),
        row("c", "rejected", rule="y", value=1.5, threshold=1.0),
        row("d", "rejected", rule="z", content_id=""),
        row("e", "duplicate", rule="duplicate.exact", value=1.0, duplicate_of="g"),
        row("f", "duplicate", rule="duplicate.trajectory", value=0.8, duplicate_of="gone"),
        row("g", n_steps=5),
        row("h", n_steps=9),
        row("i", n_steps=7),
    )
    scores = {"quality.x": worst_of_each(measured("quality.x", [1.0, 5.0, 1.0], [6, 7, 8]))}
    chosen = choose(found, scores)
    assert [c.episode_id for c in chosen.rejected] == ["a", "c", "b"], "d was never measured whole"
    assert [(p.member.episode_id, p.representative and p.representative.episode_id) for p in chosen.pairs] == [
        ("f", None),
        ("e", "g"),
    ]
    assert [(c.episode_id, c.why) for c in chosen.worst_kept] == [("h", (("quality.x", 5.0), (LONGEST, 9.0)))]
    assert [c.episode_id for c in chosen.typical] == ["i"]
    assert chosen.by_score[0].episodes == (("h", 5.0),) and chosen.by_score[0].median == 1.0


def test_pictures_lie_in_the_interval_and_around_it() -> None:
    assert picture_steps(3, None) == [0, 1, 2]
    assert picture_steps(101, None) == [0, 20, 40, 60, 80, 100]
    within = picture_steps(100, (40, 59))
    assert len(within) == 6 and sum(40 <= step <= 59 for step in within) == 4
    for interval in ((0, 0), (0, 10), (99, 99), (50, 50), (0, 99), (95, 120)):
        steps = picture_steps(100, interval)
        assert len(steps) == 6 and steps == sorted(set(steps)) and steps[0] >= 0 and steps[-1] <= 99
        assert any(interval[0] <= step <= interval[1] for step in steps)


def test_curves_are_of_the_joints_by_name_and_break_where_nothing_is_known() -> None:
    joints = pa.array([[0.0, 1.0], [0.5, float("nan")], [1.0, 3.0]], pa.list_(pa.float64(), 2))
    steps = pa.record_batch({"observation.state": joints, "observation.joint_position": joints})
    signal, unit, at, curves = curves_of(steps, {"joint_names": '["hip", "knee"]'})
    assert (signal, unit, at) == ("observation.joint_position", "rad", (0, 1, 2))
    assert curves == (Curve("hip", (0.0, 0.5, 1.0)), Curve("knee", (1.0, None, 3.0)))
    look = Look("a", "c", 3, signal, unit, at, curves)
    hip, knee = sparks(look, (1, 2))
    assert hip.path == "M0.0 41.0L64.0 22.0L128.0 3.0" and hip.shade == (64.0, 64.0)
    assert knee.path.count("M") == 2 and (knee.least, knee.most) == (1.0, 3.0)
    beside = Look("b", "c", 2, signal, unit, (0, 1), (Curve("hip", (-1.0, 1.0)),))
    both = sparks(look, None, beside)[0]
    assert (both.least, both.most) == (-1.0, 1.0) and both.other == "M0.0 41.0L128.0 3.0"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.25, 0.5, 0.75, 1]), (-16, -9, [-16, -14, -12, -10]), (0, 137, [0, 50, 100]), (3, 3, [3])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_numbers_and_shares_are_short_and_never_round_to_all_or_nothing() -> None:
    assert [number(v) for v in (None, float("nan"), 0.0, 1234567.0, 0.123456, -2e-8)] == [
        *("", "", "0", "1,234,567", "0.1235", "-2e-08")
    ]
    assert [percent(*v) for v in ((0, 0), (0, 5), (5, 5), (1, 99999), (99999, 100000), (1, 3))] == [
        *("-", "0 %", "100 %", "< 0.1 %", "> 99.9 %", "33.3 %")
    ]


def test_what_cannot_be_seen_is_written_out_and_long_texts_are_cut() -> None:
    assert visible("a\u202eb\x00c\x1b[0m") == "a\\u202eb\\x00c\\x1b[0m"
    assert visible("größe 机器人 👩‍🍳\nb") == "größe 机器人 👩‍🍳\nb"
    assert instant("2026-01-02T03:04:05.678901+01:00") == "2026-01-02 02:04:05 UTC" and instant("then") == "then"
    cut = shorten("x" * 5000, 100)
    assert len(cut) < 130 and "characters" in cut and shorten("short") == "short"
