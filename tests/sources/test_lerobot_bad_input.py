from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.factories import motion, write_lerobot_episode, write_lerobot_v21
from tests.sources.lerobot_files import edit_info, episode_table, first, plan, read, source_of, three_episodes, write_v3
from transforms.episode import STEPS
from transforms.sources import lerobot
from transforms.sources.lerobot_tables import parquet
from transforms.stage import Unreadable

EPISODE = "data/chunk-000/episode_000000.parquet"


@pytest.fixture()
def v21(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "v21", {0: motion(0), 1: motion(1)}, video=False)
    return tmp_path / "v21"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30:400] = bytes(b ^ 0xFF for b in data[30:400])
    path.write_bytes(bytes(data))


def test_damage_that_shows_in_the_statistics_harms_its_own_rows_alone(tmp_path: Path) -> None:
    table = pa.concat_tables([episode_table(0, 0, 50), episode_table(1, 50, 50)])
    root = write_v3(tmp_path / "d", [[table.slice(0, 50), table.slice(50)]])
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(table, path, compression="none", use_dictionary=False)
    refs = plan(root)
    data = bytearray(path.read_bytes())
    at = data.index(np.float32(117.1).tobytes())  # the state of episode 1 at its row 17
    data[at : at + 4] = np.float32(3e8).tobytes()
    path.write_bytes(data)
    assert read(refs[0], root).streams[STEPS].num_rows == 50
    with pytest.raises(
        Unreadable, match=r"'observation.state' holds values outside \[-?0, 149.1\], which its footer"
    ) as error:
        read(refs[1], root)
    assert error.value.problem.rule == "corrupt"


def no_rows(path: Path) -> None:
    write_lerobot_episode(path, 0, np.zeros((0, 7), "f4"), 0, 20)


@pytest.mark.parametrize(
    ("damage", "rule", "words"),
    [
        (cut, "truncated", "without a Parquet footer; restore the file"),
        (lambda path: path.write_bytes(b""), "truncated", "0 bytes without a Parquet footer"),
        (flip, "corrupt", "restore the file from its origin"),
        (lambda path: path.write_text("state,action\n1,2\n"), "wrong_format", "starts with b'stat', not b'PAR1'"),
        (no_rows, "empty", "episode 0 has no rows"),
        (Path.unlink, "absent", "is absent; restore it"),
        (lambda path: (path.unlink(), path.mkdir()), "corrupt", "Is a directory"),
    ],
)
def test_a_broken_data_file_is_unreadable_and_harms_no_other(
    v21: Path, damage: Callable[[Path], object], rule: str, words: str
) -> None:
    refs = plan(v21)
    damage(v21 / EPISODE)
    with pytest.raises(Unreadable) as error:
        read(refs[0], v21)
    assert error.value.problem.rule == rule
    assert words in error.value.problem.detail and "episode_000000.parquet" in error.value.problem.detail
    assert read(refs[1], v21).streams[STEPS].num_rows == 40


@pytest.mark.parametrize(
    ("text", "rule", "words"),
    [
        ('{"codebase_version": "v2.1", "fps": 3', "corrupt", "meta/info.json: Input data was truncated"),
        ("", "corrupt", "meta/info.json: Input data was truncated"),
        ("[1, 2]", "corrupt", "Expected `object`, got `array`"),
        ('{"codebase_version": "v2.1", "fps": "fast"}', "corrupt", "Expected `float | null`"),
        ('{"codebase_version": "v1.6"}', "wrong_format", "codebase_version 'v1.6'; v2.0, v2.1 and v3.0 are read"),
        ('{"codebase_version": "v2.1", "chunks_size": 0}', "corrupt", "chunks_size is 0; need at least 1"),
        ('{"codebase_version": "v2.1", "data_path": "../{episode_index}.parquet"}', "corrupt", "within the data set"),
        ('{"codebase_version": "v2.1", "data_path": "/etc/{episode_index}"}', "corrupt", "within the data set"),
        ('{"codebase_version": "v2.1", "data_path": "d/{secret}"}', "corrupt", "unknown field 'secret'"),
        ('{"codebase_version": "v2.1", "data_path": "d/{episode_index:0999999999d}"}', "corrupt", "plain fields only"),
    ],
)
def test_an_info_json_that_cannot_be_used(v21: Path, text: str, rule: str, words: str) -> None:
    (v21 / "meta/info.json").write_text(text)
    with pytest.raises(Unreadable) as error:
        plan(v21)
    assert error.value.problem.rule == rule and words in error.value.problem.detail


def test_paths_without_a_data_set(tmp_path: Path, v21: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        tmp_path / "nowhere": ("absent", "correct the source's path"),
        v21 / "meta/info.json": ("wrong_format", "is the folder that holds meta/info.json"),
        empty: ("empty", "is an empty folder"),
        v21 / "data": ("absent", "info.json is absent; a LeRobot data set needs it"),
    }
    for path, (rule, words) in cases.items():
        with pytest.raises(Unreadable) as error:
            list(lerobot.plan(source_of(path), path))
        assert error.value.problem.rule == rule and words in error.value.problem.detail


def test_a_data_set_of_no_episode(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text(json.dumps({"codebase_version": "v2.1", "total_episodes": 0}))
    with pytest.raises(Unreadable, match="lists no episode and disk holds none") as error:
        plan(tmp_path)
    assert error.value.problem.rule == "empty"


def test_a_listed_v3_episode_without_rows(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    refs = plan(root)
    pq.write_table(episode_table(0, 0, 5), root / "data/chunk-000/file-000.parquet")
    assert read(refs[0], root).streams[STEPS].num_rows == 5
    with pytest.raises(Unreadable, match="no rows of episode 1; correct the metadata or the file") as error:
        read(refs[1], root)
    assert error.value.problem.rule == "absent"


def test_a_footer_that_promises_more_than_the_file_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    nulls = pa.nulls(1 << 24, pa.int64())  # runs of nulls take a few bytes, decoded they take 128 MiB
    pq.write_table(pa.table({"observation.state": nulls}), path)
    assert path.stat().st_size < 100_000
    with pytest.raises(Unreadable, match=r"16777216 values declared in .* bytes; limit") as error:
        parquet(path)
    assert error.value.problem.rule == "absurd_size"


def test_a_column_named_twice(v21: Path) -> None:
    table = pq.read_table(v21 / EPISODE)
    pq.write_table(table.append_column("action", table["action"]), v21 / EPISODE)
    with pytest.raises(Unreadable, match="column 'action' occurs twice") as error:
        first(v21)
    assert error.value.problem.rule == "corrupt"


def test_a_file_without_state_or_task_is_read(v21: Path) -> None:
    table = pq.read_table(v21 / EPISODE).drop_columns(["observation.state", "task_index", "episode_index"])
    pq.write_table(table, v21 / EPISODE)
    recording = first(v21)
    assert recording.streams[STEPS].schema.names == ["timestamp_ns", "frame_index", "action"]
    assert [utterance.text for utterance in recording.utterances] == ["push the block to the left"]
    absent = [f.detail.partition(":")[0] for f in recording.findings if f.check == "metadata.feature_absent"]
    assert absent == ["episode_index", "observation.state", "task_index"]


def test_infinite_values_are_kept(v21: Path) -> None:
    q = motion(0)
    q[3, 2], q[5, 1] = np.inf, np.nan
    write_lerobot_episode(v21 / EPISODE, 0, q, 0, 20)
    values = first(v21).streams[STEPS].column("action").to_pylist()
    assert values[3][2] == np.inf and np.isnan(values[5][1])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_reads_or_is_unreadable(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write_v3(Path(folder) / "d", [[episode_table(0, 0, 5), episode_table(1, 5, 4)]], rows_per_group=3)
        refs = plan(root)
        path = root / "data/chunk-000/file-000.parquet"
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(4, len(content) - 5))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        try:
            assert read(refs[1], root).streams[STEPS].num_rows > 0
        except Unreadable as error:
            assert str(path) in error.problem.detail or refs[1].recording_id in error.problem.detail


def test_numbers_beyond_any_file_name(v21: Path) -> None:
    (v21 / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 10**15, "tasks": [], "length": 10**15}))
    edit_info(v21, total_episodes=1)
    refs = plan(v21)
    assert [ref.recording_id for ref in refs if ref.problem] == ["s/no_split/1000000000000000"]
