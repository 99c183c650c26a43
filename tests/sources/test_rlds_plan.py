"""Planning of RLDS sources: declared, absent, damaged; and one damaged record among sound ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.sources.rlds_files import (
    episode,
    shard_path,
    write_dataset,
    write_info,
    write_shard,
)
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording, RecordingRef
from transforms.sources import rlds
from transforms.stage import EpisodeStage, Unreadable

SOURCE = Source("demo", "anywhere", embodiment="arm")
FIVE_HZ = Embodiment(rate_hz=5.0)


def read_all(path: Path, source: Source = SOURCE) -> list[Recording]:
    return [rlds.read(ref, source, FIVE_HZ) for ref in rlds.plan(source, path) if ref.problem is None]


def rules(refs: list[RecordingRef]) -> list[str | None]:
    return [ref.problem.rule if ref.problem else None for ref in refs]


def checks(recording: Recording) -> dict[str, float | None]:
    return {finding.check: finding.value for finding in recording.findings}


# ---- planning


def test_declared_and_absent(tmp_path: Path) -> None:
    write_dataset(tmp_path, [episode()] * 2)
    write_info(tmp_path, {"train": [2, 3], "val": [1]})
    shard_path(tmp_path).rename(shard_path(tmp_path, count=2))
    refs = list(rlds.plan(SOURCE, tmp_path))
    assert [ref.recording_id for ref in refs] == [f"demo/train/{i:06d}" for i in range(5)] + ["demo/val/000000"]
    assert rules(refs) == [None, None] + ["declared_absent"] * 4
    assert refs[2].problem is not None and "00001-of-00002" in refs[2].problem.detail
    only = Source("demo", "x", splits=("val",))
    assert [ref.split for ref in rlds.plan(only, tmp_path)] == ["val"]
    (unknown,) = rlds.plan(Source("demo", "x", splits=("tset",)), tmp_path)
    assert unknown.problem is not None and unknown.problem.rule == "absent"
    assert "no split 'tset'; it has train, val" in unknown.problem.detail


@pytest.mark.parametrize(("declared", "planned"), [(1, [None, None]), (3, [None, None, "declared_absent"])])
def test_shard_length_that_disk_contradicts(tmp_path: Path, declared: int, planned: list[str | None]) -> None:
    write_dataset(tmp_path, [episode()] * 2)
    write_info(tmp_path, {"train": [declared]})
    refs = list(rlds.plan(SOURCE, tmp_path))
    assert rules(refs) == planned
    assert {(f.check, f.value) for ref in refs for f in ref.findings} == {("metadata.shard_length", 1.0)}
    assert f"shardLengths says {declared} episodes and 2 whole ones" in refs[0].findings[0].detail


def test_disk_alone_names_splits_and_missing_siblings(tmp_path: Path) -> None:
    write_shard(shard_path(tmp_path, "test", 1, 3), [episode()])
    refs = list(rlds.plan(Source("demo", "x", format="rlds"), tmp_path))
    assert [(ref.recording_id, ref.split) for ref in refs] == [(f"demo/test/00000{i}", "test") for i in range(3)]
    assert rules(refs) == ["declared_absent", None, "declared_absent"]


def test_folders_of_versions(tmp_path: Path) -> None:
    write_dataset(tmp_path / "1.0.0", [episode()])
    assert rlds.detect(tmp_path) and rlds.detect(tmp_path / "1.0.0") and not rlds.detect(tmp_path.parent / "none")
    assert [ref.recording_id for ref in rlds.plan(SOURCE, tmp_path)] == ["demo/train/000000"]
    write_dataset(tmp_path / "2.0.0", [episode()])
    assert [r.recording_id for r in rlds.plan(SOURCE, tmp_path)] == [
        "demo/1.0.0.train/000000",
        "demo/2.0.0.train/000000",
    ]


def test_what_other_libraries_write_is_not_rlds(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"features": {}, "splits": {"train": {"num_bytes": 3}}}')
    (tmp_path / "a.tfrecord").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    assert not rlds.detect(tmp_path) and not rlds.detect(tmp_path / "a.tfrecord")


@pytest.mark.parametrize(
    ("info", "rule", "said"),
    [
        ({"fileFormat": "array_record"}, "wrong_format", "fileFormat is 'array_record'"),
        (
            {"splits": [{"name": "a", "shardLengths": ["99999999999"]}]},
            "absurd_size",
            "a shard of 99999999999 episodes",
        ),
        (
            {"splits": [{"name": "a", "shardLengths": ["1"], "filepathTemplate": "../{SPLIT}"}]},
            "wrong_format",
            "leaves its folder",
        ),
    ],
)
def test_metadata_that_cannot_be_planned(tmp_path: Path, info: dict[str, object], rule: str, said: str) -> None:
    whole = {"name": "demo", "fileFormat": "tfrecord", "splits": [], "moduleName": "shardLengths", **info}
    (tmp_path / "dataset_info.json").write_text(json.dumps(whole))
    with pytest.raises(Unreadable, match=said) as error:
        list(rlds.plan(SOURCE, tmp_path))
    assert error.value.problem.rule == rule


def test_a_broken_dataset_info_is_a_finding(tmp_path: Path) -> None:
    write_dataset(tmp_path, [episode()])
    (tmp_path / "dataset_info.json").write_text("{")
    (recording,) = read_all(tmp_path)
    assert recording.recording_id == "demo/train/000000" and checks(recording) == {"metadata.dataset_info": 1.0}


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"neither dataset_info.json nor a \*.tfrecord file"):
        list(rlds.plan(SOURCE, tmp_path))


# ---- damage


def damaged(folder: Path, change: object) -> list[RecordingRef]:
    shard = write_dataset(folder, [episode(start=float(i)) for i in range(4)])
    data = bytearray(shard.read_bytes())
    shard.write_bytes(change(data))  # type: ignore[operator]
    return list(rlds.plan(SOURCE, folder))


def test_a_truncated_shard(tmp_path: Path) -> None:
    refs = damaged(tmp_path, lambda data: data[: len(data) // 2 + 40])
    assert rules(refs) == [None, None, "truncated", "declared_absent"]
    assert [rlds.read(ref, SOURCE, FIVE_HZ).streams["steps"].num_rows for ref in refs[:2]] == [4, 4]


def test_an_emptied_shard(tmp_path: Path) -> None:
    assert rules(damaged(tmp_path, lambda data: b"")) == ["empty"] + ["declared_absent"] * 3


def test_a_shard_of_another_format(tmp_path: Path) -> None:
    assert rules(damaged(tmp_path, lambda data: b"PAR1" + bytes(200))) == ["wrong_format"] + ["declared_absent"] * 3


class Read(EpisodeStage):
    name = "load"
    output = Recording

    def process_element(self, element: RecordingRef) -> list[Recording]:
        return [rlds.read(element, SOURCE, FIVE_HZ)]


class Letters(beam.PTransform):
    def expand(self, letters: beam.PCollection) -> beam.PCollection:
        rows = letters | beam.Map(lambda letter: (letter.episode_id, letter.rule))
        assert_that(rows, equal_to([("demo/train/000001", "corrupt")]), label="letters")
        return rows


def test_a_flipped_payload_is_one_dead_letter(tmp_path: Path) -> None:
    def flip(data: bytearray) -> bytearray:
        data[len(data) // 4 + 100] ^= 1
        return data

    refs = damaged(tmp_path, flip)
    with TestPipeline(runner=FnApiRunner()) as p, beam.transforms.error_handling.ErrorHandler(Letters()) as handler:
        read = p | beam.Create(refs) | Read().with_error_handler(handler)
        ids = read | beam.Map(lambda recording: recording.recording_id)
        assert_that(ids, equal_to([f"demo/train/00000{i}" for i in (0, 2, 3)]))


def test_splits_of_the_same_size_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, [episode()])
    place = tmp_path / "dataset_info.json"
    info = json.loads(place.read_text())
    (train,) = info["splits"]
    info["splits"] = [{**train, "numBytes": "321"}, {**train, "name": "val", "numBytes": "321"}]
    place.write_text(json.dumps(info))
    (found,) = read_all(tmp_path, replace(SOURCE, splits=("train",)))[0].findings
    assert (found.check, found.value, found.unit) == ("metadata.splits_alike", 2.0, "splits")
    assert found.detail.startswith("splits train and val each state 1 episodes in 321 bytes")
    info["splits"][1]["numBytes"] = "322"
    place.write_text(json.dumps(info))
    assert checks(read_all(tmp_path, replace(SOURCE, splits=("train",)))[0]) == {}
