from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import CollectingErrorHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import motion, write_lerobot_v21
from tests.sources.lerobot_files import (
    declared,
    edit_info,
    episode_table,
    first,
    named,
    plan,
    read,
    source_of,
    three_episodes,
    write_v3,
)
from transforms.arrays import column_matrix, times_ns
from transforms.coders import decode, encode
from transforms.conventions import Embodiment
from transforms.episode import STEPS, Recording, Utterance
from transforms.loader import ReadRecording
from transforms.sources import lerobot
from transforms.stage import Unreadable


def state(recording: Recording) -> np.ndarray:
    values = column_matrix(recording.streams[STEPS], "observation.state")
    assert values is not None
    return values


@pytest.mark.parametrize("rows_per_group", [1 << 20, 4, 3, 1])
def test_v3_episodes_are_their_own_rows_whatever_the_row_groups(tmp_path: Path, rows_per_group: int) -> None:
    root = three_episodes(tmp_path / "d", rows_per_group=rows_per_group)
    refs = plan(root)
    assert [ref.recording_id for ref in refs] == ["s/train/000000", "s/train/000001", "s/train/000002"]
    random.Random(3).shuffle(refs)
    for ref in refs:
        recording = read(ref, root)
        episode, rows = int(ref.recording_id[-6:]), {"0": 5, "1": 4, "2": 6}[ref.recording_id[-1]]
        expected = 100 * episode + np.arange(rows)[:, None] + np.array([0, 0.1])
        np.testing.assert_allclose(state(recording), expected, rtol=1e-6)
        np.testing.assert_array_equal(recording.streams[STEPS].column("frame_index").to_numpy(), np.arange(rows))
        assert recording.findings == ()
        assert recording.utterances == (Utterance("push the block"),)
        assert decode(encode(recording), Recording).streams[STEPS].equals(recording.streams[STEPS])


def test_v21_reads_rows_clock_and_words_of_the_data_set(tmp_path: Path) -> None:
    q = motion(1)
    write_lerobot_v21(tmp_path / "d", {0: motion(0), 1: q}, fps=20, video=False)
    recording = read(plan(tmp_path / "d")[1], tmp_path / "d")
    steps = recording.streams[STEPS]
    assert steps.schema.names == ["timestamp_ns", "frame_index", "observation.state", "action"]
    assert steps.schema.field("action").type == pa.list_(pa.float32(), 7)  # as on disk
    np.testing.assert_array_equal(state(recording), q.astype("f4"))
    times = times_ns(steps)
    assert times is not None and times[0] == 0
    assert times[1] == 50_000_001  # float32 of 0.05 is 0.05000000074505806
    assert recording.attributes["fps"] == "20.0" and recording.attributes["episode_index"] == "1"
    assert json.loads(recording.attributes["tasks"]) == ["push the block to the left"]
    assert recording.explicit and recording.findings == ()


def rewrite(root: Path, table: pa.Table, number: int = 0) -> Path:
    """Replace an episode of a v2.1 data set and declare its columns."""
    pq.write_table(table, root / f"data/chunk-000/episode_{number:06d}.parquet")
    edit_info(root, features=declared(table))
    return root


@pytest.fixture()
def v21(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "v21", {0: motion(0, steps=4)}, fps=10, video=False)
    return tmp_path / "v21"


def test_columns_that_bear_the_names_of_others_are_not_lost(tmp_path: Path) -> None:
    """Sets made of RLDS have `reward` and `is_terminal` beside `next.reward` and `next.done`, in either order."""
    stored = {
        "reward": pa.array([5.0, 6.0, 7.0, 8.0]),
        "next.reward": pa.array([0.0, 0.0, 0.0, 1.0]),
        "is_terminal": pa.array([False] * 4),
        "next.done": pa.array([False, False, False, True]),
    }
    for order in (list(stored), list(reversed(stored))):
        table = episode_table(0, 0, 4)
        for name in order:
            table = table.append_column(name, stored[name])
        steps = first(write_v3(tmp_path / order[0], [[table]])).streams[STEPS].to_pydict()
        assert steps["reward"] == [0.0, 0.0, 0.0, 1.0] and steps["stored.reward"] == [5.0, 6.0, 7.0, 8.0]
        assert steps["is_terminal"] == [False] * 4 and steps["next.done"] == [False, False, False, True]


def test_rewards_dones_and_success(v21: Path) -> None:
    table = episode_table(0, 0, 4)
    table = table.append_column("next.reward", pa.array([0.0, 0.0, 0.0, 1.0]))
    table = table.append_column("next.done", pa.array([False, False, False, True]))
    table = table.append_column("next.success", pa.array([False, False, False, True]))
    recording = first(rewrite(v21, table))
    steps = recording.streams[STEPS].to_pydict()
    assert steps["reward"] == [0.0, 0.0, 0.0, 1.0] and "next.reward" not in steps
    assert steps["next.done"] == steps["is_terminal"] == [False, False, False, True]
    assert recording.success is True
    assert first(rewrite(v21, table.drop_columns(["next.success"]))).success is None


def test_variable_lists_become_one_width_and_nested_ones_flat(v21: Path) -> None:
    table = episode_table(0, 0, 4)
    states = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], None, [7.0, 8.0, 9.0]]
    table = table.set_column(0, "observation.state", pa.array(states, pa.list_(pa.float64())))
    table = table.append_column("pose", pa.array([[[1, 2], [3, 4]]] * 4, pa.list_(pa.list_(pa.int32()))))
    steps = first(rewrite(v21, table)).streams[STEPS]
    assert steps.schema.field("observation.state").type == pa.list_(pa.float64(), 3)
    assert steps.column("observation.state").to_pylist() == states
    assert steps.schema.field("pose").type == pa.list_(pa.int32(), 4)
    assert steps.column("pose").to_pylist() == [[1, 2, 3, 4]] * 4


def test_rows_that_differ_in_length_within_an_episode_alone_are_unreadable(tmp_path: Path) -> None:
    def lists(table: pa.Table, widths: list[int]) -> pa.Table:
        values = [[float(i) for i in range(width)] for width in widths]
        return table.set_column(0, "observation.state", pa.array(values, pa.list_(pa.float64())))

    tables = [
        lists(episode_table(0, 0, 3), [2, 2, 2]),
        lists(episode_table(1, 3, 3), [4, 4, 5]),
        lists(episode_table(2, 6, 3), [3, 3, 3]),
    ]
    root = write_v3(tmp_path / "d", [tables])
    refs = plan(root)
    assert state(read(refs[0], root)).shape == (3, 2)
    assert state(read(refs[2], root)).shape == (3, 3)
    with pytest.raises(
        Unreadable, match=r"s/train/000001: column 'observation.state' holds 4 .* 5 at its entry 2"
    ) as e:
        read(refs[1], root)
    assert e.value.problem.rule == "shape_changed"


def test_shape_change_between_row_groups_is_unreadable(tmp_path: Path) -> None:
    table = episode_table(0, 0, 4)
    values = pa.array([[1.0, 2.0]] * 2 + [[1.0, 2.0, 3.0]] * 2, pa.list_(pa.float64()))
    root = write_v3(tmp_path / "d", [[table.set_column(0, "observation.state", values)]], rows_per_group=2)
    with pytest.raises(Unreadable, match=r"'observation.state' is .*\[2\] at first and .*\[3\] later"):
        first(root)


def test_a_task_that_changes_gives_intervals(tmp_path: Path) -> None:
    root = write_v3(tmp_path / "d", [[episode_table(0, 0, 5, task=[0, 0, 1, 1, 1])]])
    recording = first(root)
    third, last = 200_000_003, 400_000_006  # float32 of 0.2 and 0.4, in ns
    assert recording.utterances == (
        Utterance("push the block", 0, third),
        Utterance("open the drawer", third, last + 1),
    )
    (found,) = named(recording.findings, "metadata.tasks")
    assert found.value == 1.0 and "open the drawer" in found.detail


def test_validity_is_no_instruction_and_an_unknown_task_is_a_finding(v21: Path) -> None:
    tasks = ["pick the pear", "valid", "lift slowly"]
    lines = [json.dumps({"task_index": i, "task": text}) for i, text in enumerate(tasks)]
    (v21 / "meta/tasks.jsonl").write_text("\n".join(lines))
    line = {"episode_index": 0, "tasks": ["pick the pear", "valid"], "length": 4}
    (v21 / "meta/episodes.jsonl").write_text(json.dumps(line))
    table = episode_table(0, 0, 4)
    table = table.append_column("annotation.human.validity", pa.array([1] * 4))
    table = table.append_column("annotation.human.action.task_description", pa.array([0] * 4))
    recording = first(rewrite(v21, table))
    assert recording.utterances == (Utterance("pick the pear"),)
    assert recording.attributes["annotation.human.validity"] == '["valid"]'
    assert named(recording.findings, "metadata.tasks") == []

    other = table.set_column(table.schema.get_field_index("task_index"), "task_index", pa.array([7] * 4))
    recording = first(rewrite(v21, other.drop_columns(["annotation.human.action.task_description"])))
    (found,) = named(recording.findings, "metadata.task_index")
    assert found.value == 7 and recording.utterances == (Utterance("pick the pear"),)


def test_clock_without_times_comes_from_the_declared_rate(v21: Path) -> None:
    table = episode_table(0, 0, 4).drop_columns(["timestamp", "frame_index"])
    rewrite(v21, table)
    assert times_ns(first(v21).streams[STEPS]).tolist() == [0, 100_000_000, 200_000_000, 300_000_000]  # type: ignore[union-attr]
    ours = first(v21, embodiment=Embodiment(rate_hz=50))
    assert times_ns(ours.streams[STEPS]).tolist() == [0, 20_000_000, 40_000_000, 60_000_000]  # type: ignore[union-attr]
    assert ours.streams[STEPS].schema.names[:2] == ["timestamp_ns", "frame_index"]
    assert named(ours.findings, "timestamps.absent")[0].detail == "no column of times; index / 50 Hz is used"
    edit_info(v21, fps=None)
    unknown = first(v21)
    assert unknown.streams[STEPS].column("timestamp_ns").null_count == 4


def test_wrong_times_stay_and_are_findings(v21: Path) -> None:
    table = episode_table(0, 0, 4)
    at = table.schema.get_field_index("timestamp")
    times = pa.array([0.05, 0.25, float("nan"), 0.65])
    recording = first(rewrite(v21, table.set_column(at, "timestamp", times)))
    stored = recording.streams[STEPS].column("timestamp_ns").to_pylist()
    assert stored == [50_000_000, 250_000_000, None, 650_000_000]
    assert named(recording.findings, "timestamps.start_offset")[0].value == 0.05
    (rate,) = named(recording.findings, "metadata.fps")
    assert rate.value == pytest.approx(1 / 0.3) and rate.unit == "Hz"


def test_required_columns(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    ref = plan(root)[0]
    assert read(ref, root, required=("action", "timestamp", "observation.state")).streams
    with pytest.raises(Unreadable, match=r"required column .observation.effort. is absent") as error:
        read(ref, root, required=("observation.effort",))
    assert error.value.problem.rule == "required_missing"


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 7), min_size=1, max_size=4), min_size=1, max_size=3),
    rows_per_group=st.integers(1, 9),
)
def test_every_row_of_the_files_is_in_exactly_one_episode(lengths: list[list[int]], rows_per_group: int) -> None:
    files: list[list[pa.Table]] = []
    row = number = 0
    for file in lengths:
        files.append([])
        for length in file:
            files[-1].append(episode_table(number, row, length))
            row, number = row + length, number + 1
    with tempfile.TemporaryDirectory() as folder:
        root = write_v3(Path(folder) / "d", files, rows_per_group=rows_per_group)
        recordings = [read(ref, root) for ref in plan(root)]
    assert [r.streams[STEPS].num_rows for r in recordings] == [n for file in lengths for n in file]
    assert all(r.findings == () for r in recordings)
    whole = pa.concat_tables([table for file in files for table in file])
    seen = pa.Table.from_batches([r.streams[STEPS] for r in recordings])
    assert seen["action"].to_pylist() == whole["action"].to_pylist()


def test_pipeline_reads_and_sends_what_is_broken_to_the_dead_letters(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    data = root / "data/chunk-000/file-001.parquet"
    data.write_bytes(data.read_bytes()[:300])
    source = source_of(root)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        handler = CollectingErrorHandler()
        reader = ReadRecording({"s": source}, {}).with_error_handler(handler)
        recordings = pipeline | beam.Create(list(lerobot.plan(source, root))) | reader
        handler.close()
        rows = recordings | beam.Map(lambda r: (r.recording_id, r.streams[STEPS].num_rows))
        assert_that(rows, equal_to([("s/train/000000", 5), ("s/train/000001", 4)]), "kept")
        dead = handler.output() | beam.Map(lambda d: (d.stage, d.episode_id, d.rule))
        assert_that(dead, equal_to([("load", "s/train/000002", "truncated")]), "dead")
