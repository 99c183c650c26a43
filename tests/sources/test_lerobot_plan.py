from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import motion, write_lerobot_episode, write_lerobot_v21
from tests.sources.lerobot_files import (
    declared,
    edit_info,
    edit_listed,
    episode_table,
    first,
    named,
    plan,
    read,
    source_of,
    three_episodes,
    write_v3,
)
from transforms.arrays import column_matrix
from transforms.conventions import Source
from transforms.episode import STEPS, RecordingRef
from transforms.sources import lerobot
from transforms.stage import Unreadable


@pytest.fixture()
def v21(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "v21", {i: motion(i, steps=5) for i in range(3)}, fps=20, video=False)
    return tmp_path / "v21"


def checks(refs: list[RecordingRef]) -> dict[str, list[str]]:
    """Checks of each planned episode, by the number in its id."""
    return {ref.recording_id.rpartition("/")[2]: [found.check for found in ref.findings] for ref in refs}


def test_detects_a_data_set_by_its_content(v21: Path, tmp_path: Path) -> None:
    assert lerobot.detect(v21)
    assert not lerobot.detect(v21 / "data") and not lerobot.detect(v21 / "meta/info.json")
    assert not lerobot.detect(tmp_path / "nowhere")


def test_declared_and_absent_and_unlisted_episodes_are_planned(v21: Path) -> None:
    (v21 / "data/chunk-000/episode_000001.parquet").unlink()
    write_lerobot_episode(v21 / "data/chunk-000/episode_000007.parquet", 7, motion(7, steps=5), 15, 20)
    refs = plan(v21)
    assert [ref.recording_id for ref in refs] == [
        "s/train/000000",
        "s/train/000001",
        "s/train/000002",
        "s/no_split/000007",
    ]
    assert [ref.problem.rule if ref.problem else None for ref in refs] == [None, "declared_absent", None, None]
    assert (
        refs[1].problem is not None
        and "data/chunk-000/episode_000001.parquet is absent in v21" in refs[1].problem.detail
    )
    (found,) = refs[3].findings
    assert found.check == "metadata.unlisted" and "lists no episode 7" in found.detail
    assert read(refs[3], v21).streams[STEPS].num_rows == 5


def test_ids_name_the_place_below_the_source_where_it_holds_several_data_sets(v21: Path, tmp_path: Path) -> None:
    shutil.copytree(v21, tmp_path / "more/deep/v21")
    for path, expected in {
        str(v21): "s/train/000000",
        str(tmp_path): "s/v21/train/000000",
        str(tmp_path / "v*"): "s/v21/train/000000",
    }.items():
        assert next(lerobot.plan(Source("s", path), v21)).recording_id == expected
    below = tmp_path / "more/deep/v21"
    found = next(lerobot.plan(Source("s", f"{tmp_path}/**/v21"), below))
    assert found.recording_id == "s/more/deep/v21/train/000000"


def test_splits_choose_episodes(v21: Path) -> None:
    edit_info(v21, splits={"train": "0:2", "val": "2:3"})
    assert [ref.recording_id for ref in plan(v21)] == ["s/train/000000", "s/train/000001", "s/val/000002"]
    assert [ref.recording_id for ref in plan(v21, splits=("val",))] == ["s/val/000002"]
    with pytest.raises(Unreadable, match=r"split 'test' is not declared; info.json declares: train, val"):
        plan(v21, splits=("test",))


@pytest.mark.parametrize(
    ("change", "check", "value", "words"),
    [
        ({"splits": {"train": "0:100"}}, "metadata.splits", 100, "'0:100'; 3 episodes are listed"),
        ({"splits": {"train": "0:2", "val": "1:3"}}, "metadata.splits", 1, "both hold episodes 1 to 1"),
        ({"splits": {"train": "all"}}, "metadata.splits", None, "need 'first:end'"),
        ({"splits": {"train": "0:1000000000000000"}}, "metadata.splits", 1e15, "3 episodes are listed"),
        ({"total_episodes": 9}, "metadata.total_episodes", 9, "declared 9, listed 3"),
        ({"total_episodes": 10**12}, "metadata.total_episodes", 1e12, "listed 3"),
        ({"total_frames": 14}, "metadata.total_frames", 14, "declared 14, listed 15"),
        ({"total_videos": 2}, "metadata.total_videos", 2, "3 episodes x 0 cameras make 0"),
        ({"total_chunks": 0}, "metadata.total_chunks", 0, "declared 0; the listed episodes lie in 1"),
        ({"total_tasks": 4}, "metadata.total_tasks", 4, "declared 4, listed 1"),
    ],
)
def test_metadata_that_disagrees_is_a_finding_on_every_episode(
    v21: Path, change: dict[str, object], check: str, value: float | None, words: str
) -> None:
    edit_info(v21, **change)
    refs = plan(v21)
    assert len(refs) == 3
    for ref in refs:
        (found,) = ref.findings
        assert (found.check, found.value, found.stage) == (check, value, "load") and words in found.detail


def test_agreeing_metadata_gives_no_finding(v21: Path, tmp_path: Path) -> None:
    assert set(map(len, checks(plan(v21)).values())) == {0}
    assert set(map(len, checks(plan(three_episodes(tmp_path / "v3"))).values())) == {0}


def test_broken_and_repeated_lines_of_the_episode_list(v21: Path) -> None:
    path = v21 / "meta/episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[0], '{"episode_index": 1, "tas', lines[2]]))
    refs = plan(v21)
    assert [ref.recording_id[-1] for ref in refs] == ["0", "1", "2"]
    assert "metadata.unlisted" in checks(refs)["000001"]
    texts = [found.detail for found in named(refs[0].findings, "metadata.episodes")]
    assert "episodes.jsonl line 3" in texts[0] and "episode 0 is listed more than once" in texts[1]


def test_without_a_list_the_total_counts(v21: Path) -> None:
    (v21 / "meta/episodes.jsonl").unlink()
    edit_info(v21, total_episodes=4)
    refs = plan(v21)
    assert [ref.problem is None for ref in refs] == [True, True, True, False]
    assert named(refs[0].findings, "metadata.episodes")[0].detail == "the data set has no list of episodes"


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_an_absurd_total_without_a_list_is_refused(v21: Path, version: str) -> None:
    (v21 / "meta/episodes.jsonl").unlink()
    edit_info(v21, total_episodes=10**12, codebase_version=version)
    with pytest.raises(Unreadable, match=r"total_episodes is 1000000000000 .* limit 1000000") as error:
        plan(v21)
    assert error.value.problem.rule == "absurd_size"


def test_a_file_in_another_chunk_is_found(v21: Path) -> None:
    (v21 / "data/chunk-001").mkdir()
    moved = v21 / "data/chunk-001/episode_000001.parquet"
    (v21 / "data/chunk-000/episode_000001.parquet").rename(moved)
    ref = plan(v21)[1]
    assert ref.problem is None and ref.uri == str(moved)
    assert [found.check for found in ref.findings] == ["metadata.data_path"]
    assert read(ref, v21).streams[STEPS].num_rows == 5
    shutil.copy(moved, v21 / "data/chunk-000/episode_000001.parquet")
    (found,) = plan(v21)[1].findings
    assert found.check == "metadata.unlisted" and "a second file of episode 1" in found.detail


def test_v3_absent_and_unlisted_files_and_episodes(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    edit_listed(root, lambda rows: rows.pop(1))
    pq.write_table(episode_table(5, 15, 3), root / "data/chunk-000/file-004.parquet")
    (root / "data/chunk-000/file-005.parquet").write_bytes(b"no table")
    (root / "data/chunk-000/file-001.parquet").unlink()
    edit_info(root, total_episodes=2, total_frames=11)
    refs = plan(root)
    assert {ref.recording_id: ref.problem.rule if ref.problem else None for ref in refs} == {
        "s/train/000000": None,
        "s/train/000001": None,
        "s/train/000002": "declared_absent",
        "s/no_split/000005": None,
        "s/data_chunk-000_file-005/000000": "wrong_format",
    }
    assert checks(refs)["000001"] == ["metadata.splits", "metadata.length", "metadata.unlisted"]
    assert [read(ref, root).streams[STEPS].num_rows for ref in refs if ref.problem is None] == [5, 4, 3]


def test_v3_without_any_list_is_planned_from_the_files(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    shutil.rmtree(root / "meta/episodes")
    edit_info(root, total_episodes=4)
    refs = plan(root)
    assert [ref.problem.rule if ref.problem else None for ref in refs] == [None, None, None, "declared_absent"]
    assert [read(ref, root).streams[STEPS].num_rows for ref in refs[:3]] == [5, 4, 6]


def test_v3_part_of_the_list_that_cannot_be_read(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    (root / "meta/episodes/chunk-000/file-001.parquet").write_bytes(b"PAR1")
    refs = plan(root)
    assert len(refs) == 3
    (found,) = refs[0].findings
    assert found.check == "metadata.episodes" and "file-001.parquet: 4 bytes without a Parquet footer" in found.detail


def test_lengths_indices_and_places_against_the_rows(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")

    def change(rows: list[dict[str, object]]) -> None:
        rows[0]["length"], rows[1]["dataset_from_index"] = 6, 6

    edit_listed(root, change)
    edit_info(root, total_frames=16)
    refs = plan(root)
    (length,) = named(read(refs[0], root).findings, "metadata.length")[1:]  # the first is about the file
    assert length.value == -1 and length.detail == "episode 0: 5 rows, 6 listed"
    moved = named(read(refs[1], root).findings, "metadata.dataset_index")
    assert [found.value for found in moved] == [-1, -1] and "row 6 of file-000.parquet; it is at row 5" in moved[
        0
    ].detail
    assert read(refs[1], root).streams[STEPS].num_rows == 4


def test_rows_that_carry_another_episode_index(v21: Path, tmp_path: Path) -> None:
    write_lerobot_episode(v21 / "data/chunk-000/episode_000001.parquet", 9, motion(1, steps=5), 5, 20)
    (found,) = read(plan(v21)[1], v21).findings
    assert (found.check, found.value) == ("metadata.episode_index", 5)

    shifted = [episode_table(10, 0, 5), episode_table(11, 5, 4)]
    root = write_v3(tmp_path / "v3", [shifted])
    recording = read(plan(root)[1], root)
    values = column_matrix(recording.streams[STEPS], "observation.state")
    assert values is not None and values[0, 0] == 1100 and len(values) == 4
    assert named(recording.findings, "metadata.episode_index")[0].value == 4

    split = write_v3(tmp_path / "split", [[episode_table(0, 0, 2), episode_table(1, 2, 2), episode_table(0, 4, 2)]])
    recording = first(split)
    assert recording.streams[STEPS].num_rows == 4
    assert named(recording.findings, "metadata.episode_index")[0].detail.endswith("2 places of file-000.parquet")


def test_features_against_columns(v21: Path) -> None:
    table = episode_table(0, 0, 5).append_column("force", pa.array([1.5] * 5))
    pq.write_table(table, v21 / "data/chunk-000/episode_000000.parquet")
    features = declared(table)
    del features["force"]
    features |= {"torque": {"dtype": "float32", "shape": [3]}, "action": {"dtype": "float64", "shape": [3]}}
    edit_info(v21, features=features)
    found = {f.check: f.detail for f in first(v21).findings if f.check != "metadata.fps"}
    assert found == {
        "metadata.feature_absent": "torque: declared, no such column",
        "metadata.feature_undeclared": "force: a column that info.json does not declare",
        "metadata.dtype": "action: declared float64, stored float32",
        "metadata.shape": "action: declared shape [3], stored width 2",
    }


def test_frame_index_that_does_not_count(v21: Path) -> None:
    table = episode_table(0, 0, 5)
    at = table.schema.get_field_index("frame_index")
    path = v21 / "data/chunk-000/episode_000000.parquet"
    pq.write_table(table.set_column(at, "frame_index", pa.array([0, 1, 1, 5, 6])), path)
    (found,) = named(first(v21).findings, "metadata.frame_index")
    assert (found.value, found.unit) == (2, "rows")


def test_modality_json_against_columns(v21: Path) -> None:
    modality = {
        "state": {"arm": {"start": 0, "end": 7}, "hand": {"start": 7, "end": 13}},
        "action": {"arm": {"start": 0, "end": 3, "original_key": "command"}},
        "video": {"ego": {"original_key": "observation.images.ego"}},
        "annotation": {"human.validity": {}},
    }
    (v21 / "meta/modality.json").write_text(json.dumps(modality, indent=2))
    recording = first(v21)
    texts = [found.detail for found in named(recording.findings, "metadata.modality")]
    assert texts == [
        "modality.json: hand is observation.state[7:13]; the column holds 7",
        "modality.json: arm is command[0:3]; the column holds 0",
        "modality.json: ego is observation.images.ego; info.json has no such camera",
        "modality.json: annotation.human.validity is no column",
    ]
    assert json.loads(recording.attributes["modality"]) == modality


def test_unreadable_tasks_and_modality_are_findings(tmp_path: Path) -> None:
    root = three_episodes(tmp_path / "d")
    (root / "meta/tasks.parquet").write_bytes(b"PAR1 and no more")
    (root / "meta/modality.json").write_text("{")
    recording = first(root)
    texts = [found.detail for found in named(recording.findings, "metadata.unreadable")]
    assert "tasks.parquet" in texts[0] and "modality.json" in texts[1]
    assert [utterance.text for utterance in recording.utterances] == ["push the block"]  # as the episode lists it


def test_undeclared_cameras_are_named(v21: Path) -> None:
    (v21 / "videos/chunk-000/observation.images.side").mkdir(parents=True)
    (found,) = plan(v21)[0].findings
    assert found.check == "metadata.camera_undeclared" and found.detail.startswith("observation.images.side: ")


def test_plan_is_the_same_wherever_the_data_lie(v21: Path, tmp_path: Path) -> None:
    shutil.copytree(v21, tmp_path / "elsewhere")
    there = list(lerobot.plan(source_of(tmp_path / "elsewhere"), tmp_path / "elsewhere"))
    assert [(r.recording_id, r.place) for r in there] == [(r.recording_id, r.place) for r in plan(v21)]
