"""Planning over patterns and folders: every input once, under an id that its neighbours do not change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from transforms.coders import decode, encode
from transforms.conventions import Source
from transforms.episode import RecordingRef
from transforms.formats import FORMATS
from transforms.loader import plan
from transforms.sources import isaac_hdf5


def planned(path: Path | str) -> list[RecordingRef]:
    return list(plan(Source("s", str(path))))


def ids(path: Path | str) -> list[str]:
    return [ref.recording_id for ref in planned(path)]


def test_a_folder_more_changes_no_id(tmp_path: Path) -> None:
    for name in "bc":
        write_isaac(tmp_path / name / "x.hdf5", {0: motion(0, 3)})
        write_rlds(tmp_path / name / "r/1.0.0", [[rlds_example(0, 3)]])
        write_video(tmp_path / name / "v/x.mp4", 3)
        write_lerobot_v21(tmp_path / name / "l", {0: motion(0, 3)}, video=False)
    before = ids(tmp_path)
    kinds = ["x/000000", "l/train/000000", "r/train/000000", "v/x"]
    assert sorted(before) == sorted(f"s/{name}/{kind}" for name in "bc" for kind in kinds)
    write_isaac(tmp_path / "a/x.hdf5", {0: motion(0, 3)})
    assert set(ids(tmp_path)) == {*before, "s/a/x/000000"}
    assert set(ids(f"{tmp_path}/*")) == set(ids(tmp_path))
    assert ids(tmp_path / "b/x.hdf5") == ["s/x/000000"]


def test_what_a_pattern_matches_twice_is_planned_once(tmp_path: Path) -> None:
    write_isaac(tmp_path / "i/deep/x.hdf5", {0: motion(0, 3), 1: motion(1, 3)})
    write_rlds(tmp_path / "r/1.0.0", [[rlds_example(0, 3)]])
    write_video(tmp_path / "v/deep/x.mp4", 3)
    refs = planned(f"{tmp_path}/**")
    assert {ref.recording_id for ref in refs if ref.problem is None} == set(ids(tmp_path))
    assert len(refs) == len(ids(tmp_path)) == 4


def test_videos_beside_hdf5_files_are_planned_too(tmp_path: Path) -> None:
    write_isaac(tmp_path / "x.hdf5", {0: motion(0, 3)})
    write_isaac(tmp_path / "later/x.hdf5", {0: motion(0, 3)})
    write_video(tmp_path / "y.mp4", 3)
    (tmp_path / "README.txt").write_text("made on a Tuesday")
    assert ids(tmp_path) == ["s/x/000000", "s/later/x/000000", "s/y"]


def test_brackets_in_a_folders_name_are_no_pattern(tmp_path: Path) -> None:
    write_isaac(tmp_path / "set [v2]/deep/x.hdf5", {0: motion(0, 3)})
    write_isaac(tmp_path / "set [v2]/deep/y.hdf5", {0: motion(0, 3)})
    write_lerobot_v21(tmp_path / "set [v2]/l", {0: motion(0, 3)}, video=False)
    assert ids(tmp_path / "set [v2]/deep/[x]*.hdf5") == ["s/x/000000"]
    assert ids(tmp_path / "set [v2]/l") == ["s/train/000000"]
    assert ids(tmp_path / "set [v2]/*") == ["s/deep/x/000000", "s/deep/y/000000", "s/l/train/000000"]


def test_a_name_that_is_no_text_is_a_problem_that_can_be_written_down(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 3)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")).write_bytes((tmp_path / "a.mp4").read_bytes())
    good, bad = planned(tmp_path)
    assert good.problem is None
    assert (bad.recording_id, bad.problem and bad.problem.rule) == ("s/caf\\xe9", "unreadable")
    assert decode(encode(bad), RecordingRef) == bad


def test_a_file_that_may_not_be_opened_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", 3)
    (tmp_path / "b").write_bytes(b"secret")
    known = FORMATS["rlds"].detect

    def detect(path: Path) -> bool:
        if path.name == "b":
            raise PermissionError(13, "Permission denied")
        return bool(known(path))

    monkeypatch.setattr(FORMATS["rlds"], "detect", detect)
    good, bad = planned(tmp_path)
    assert good.recording_id == "s/a" and good.problem is None
    assert bad.problem is not None and bad.problem.rule == "unreadable" and "Permission denied" in bad.problem.detail


def test_a_reader_that_fails_while_planning_harms_no_other_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        write_isaac(tmp_path / f"{name}.hdf5", {0: motion(0)})
    working = isaac_hdf5.plan

    def fails_on_a(source: Source, path: Path) -> Iterator[RecordingRef]:
        if path.name == "a.hdf5":
            raise KeyError("data")
        return working(source, path)

    monkeypatch.setattr(isaac_hdf5, "plan", fails_on_a)
    source = Source("s", str(tmp_path / "*.hdf5"))
    first, second = plan(source)
    assert first.problem is not None and first.problem.rule == "plan_failed" and "KeyError" in first.problem.detail
    assert (second.recording_id, second.problem) == ("s/b/000000", None)
    with pytest.raises(KeyError):
        list(plan(source, fail_fast=True))
