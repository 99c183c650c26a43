"""The runner's benchmark on small jobs: both sides do what is right, wrong work is caught, turns are fair."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from benchmarks import runner_inference
from benchmarks.harness import finish
from benchmarks.runner import ARMS, measure
from benchmarks.runner_lanes import FN_API_RUNNER, Lane, Outcome, Settings, Side, median_ratio, run_beam, take_turns
from benchmarks.runner_stream import growth

SMOKE = Settings(FN_API_RUNNER, quick=True)


def note(path: Path, letter: str) -> Outcome:
    with path.open("a", encoding="utf-8") as file:
        file.write(letter)
    return Outcome(0.5, {"count": 1})


def test_arms_on_beams_own_runner_give_their_rows() -> None:
    report = measure(["flatmap", "reshuffle", "group_small", "group_large", "stream"], SMOKE)
    values = {row.name: row.value for row in report.rows}
    for name in ("flatmap", "reshuffle", "group_small", "group_large"):
        ratio = values[f"{name}: ratio"]
        assert ratio is not None and 0.1 < ratio < 10
    peak_mb = values["stream: peak PSS"]
    assert peak_mb is not None and peak_mb > 50
    assert values["stream: spilled"] is None
    assert not any(bar.binding for bar in report.bars)
    assert not any(name.endswith(": failed") for name in values)


def test_scaling_and_latency_arms_on_beams_own_runner() -> None:
    report = measure(["cpu_map", "vertical", "second_pipeline", "cold"], SMOKE)
    values = {row.name: row.value for row in report.rows}
    assert all(values[bar.row] is not None for bar in report.bars)
    assert not any(name.endswith(": failed") for name in values)


def test_bundles_that_were_not_run_are_a_bar_missed(capsys: pytest.CaptureFixture[str]) -> None:
    report = measure(["tiny_bundle"], SMOKE)
    assert finish(report, None, check=True) == 1
    printed = capsys.readouterr().out
    assert "falls short: tiny_bundle: failed is 1, bar <= 0" in printed
    assert [row.note for row in report.rows if "'bundles': 1" in row.note and "'bundles': 100" in row.note]


def test_ray_data_by_hand_gives_the_same_totals() -> None:
    pytest.importorskip("ray.data")
    rows = {row.name: row for row in measure(["records"], SMOKE).rows}
    assert "hash_shuffle, num_partitions=8" in rows["records: Ray Data's ways"].note
    ratio = rows["records: ratio"].value
    assert ratio is not None and ratio > 0


def test_inference_writes_what_one_image_after_the_other_gives(tmp_path: Path) -> None:
    images, target = tmp_path / "images", tmp_path / "target"
    images.mkdir(), target.mkdir()
    runner_inference.write_images(images, 5)
    right = runner_inference.expected_output(images)
    run_beam(FN_API_RUNNER, (), functools.partial(runner_inference.build, str(images), str(target)))
    assert dict(runner_inference.read_back(str(target), Outcome(1.0)).results) == right
    assert right["count"] == 5
    (images / "000000.jpg").unlink()
    assert runner_inference.expected_output(images)["total"] != right["total"]


def test_turns_alternate_and_go_on_until_each_side_ran_long_enough(tmp_path: Path) -> None:
    path = tmp_path / "order"
    with Lane("x") as first, Lane("y") as second:
        sides = [Side(lane, functools.partial(note, path, lane.name), {"count": 1}, "toy") for lane in (first, second)]
        assert take_turns(sides, Settings(seconds=2.0)) == [[0.5] * 4, [0.5] * 4]
    assert path.read_text() == "xy" + "xy" + "yx" + "xy" + "yx"


def test_a_wrong_result_ends_the_arm(tmp_path: Path) -> None:
    with Lane("a") as lane:
        side = Side(lane, functools.partial(note, tmp_path / "order", "a"), {"count": 2}, "toy")
        with pytest.raises(RuntimeError, match=r"a produced \{'count': 1\} where \{'count': 2\} is right \(toy\)"):
            side.run()


def test_a_process_that_ends_in_a_run_is_told() -> None:
    with Lane("a") as lane, pytest.raises(RuntimeError, match="a: its process ended in the middle of a run"):
        lane.run(functools.partial(os._exit, 3))


def test_ratios_are_taken_round_by_round() -> None:
    assert median_ratio([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == 2.0


def test_growth_compares_the_last_third_with_the_middle_one() -> None:
    assert growth([9, 9, 9, 2, 4, 3, 6, 7, 6]) == 2.0
    assert growth([1, 1, 1, 1, 1]) is None


def test_every_arm_says_what_it_measures() -> None:
    assert all(arm.__doc__ for arm in ARMS.values())
