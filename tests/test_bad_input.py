"""Every way an input can be broken: the message, the outcome, and neighbours that are not harmed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.factories import (
    EXAMPLE,
    frame,
    motion,
    rlds_example,
    write_isaac,
    write_lerobot_episode,
    write_lerobot_v21,
    write_rlds,
    write_video,
)
from tests.job import Job, run_job

RLDS = "  - {name: r, path: rlds, embodiment: panda}"
ISAAC = "  - {name: i, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"
LEROBOT = "  - {name: l, path: lerobot, embodiment: panda, required: [observation.state, action]}"
VIDEO = "  - {name: v, path: video, embodiment: panda}"


def assert_quarantined(job: Job, episode_id: str, rule: str, *words: str) -> None:
    row = job.ledger[episode_id]
    assert (row["outcome"], row["rule"]) == ("quarantined", rule), row
    assert row["stage"] == "load"
    for word in words:
        assert word in row["detail"], row["detail"]


def assert_others_kept(job: Job, *spoilt: str) -> None:
    assert job.status == 0
    others = {name: row["outcome"] for name, row in job.ledger.items() if name not in spoilt}
    assert others and set(others.values()) == {"kept"}, {
        n: (job.ledger[n]["rule"], job.ledger[n]["detail"]) for n in others
    }


@pytest.fixture()
def rlds(tmp_path: Path) -> list[Path]:
    return write_rlds(tmp_path / "rlds", [[rlds_example(0), rlds_example(1)], [rlds_example(2), rlds_example(3)]])


def test_truncated_tfrecord(tmp_path: Path, rlds: list[Path]) -> None:
    rlds[1].write_bytes(rlds[1].read_bytes()[:-100])
    job = run_job(tmp_path, RLDS)
    assert_quarantined(job, "r/train/000003", "truncated", rlds[1].name)
    assert_others_kept(job, "r/train/000003")


def test_bit_flip_in_tfrecord_payload(tmp_path: Path, rlds: list[Path]) -> None:
    data = bytearray(rlds[0].read_bytes())
    data[len(frame(rlds_example(0))) // 2] ^= 1
    rlds[0].write_bytes(bytes(data))
    job = run_job(tmp_path, RLDS)
    assert_quarantined(job, "r/train/000000", "corrupt", "checksum", rlds[0].name)
    assert_others_kept(job, "r/train/000000")


def test_absurd_size_in_tfrecord(tmp_path: Path, rlds: list[Path]) -> None:
    import struct

    from tests.factories import masked_crc

    length = struct.pack("<Q", 1 << 60)
    rlds[1].write_bytes(rlds[1].read_bytes() + length + struct.pack("<I", masked_crc(length)) + b"x" * 40)
    job = run_job(tmp_path, RLDS)
    bad = [name for name, row in job.ledger.items() if row["outcome"] == "quarantined"]
    assert len(bad) == 1 and job.ledger[bad[0]]["rule"] in ("absurd_size", "truncated")
    assert str(1 << 60) in job.ledger[bad[0]]["detail"].replace(",", "").replace("_", "")
    assert_others_kept(job, *bad)


def test_empty_rlds_episode(tmp_path: Path) -> None:
    write_rlds(tmp_path / "rlds", [[rlds_example(0), rlds_example(1, states=np.zeros((0, 7), "f4"))]])
    job = run_job(tmp_path, RLDS)
    assert_quarantined(job, "r/train/000001", "empty")
    assert_others_kept(job, "r/train/000001")


def test_shard_that_is_another_format(tmp_path: Path, rlds: list[Path]) -> None:
    rlds[1].write_bytes(b"\x89HDF\r\n\x1a\n" + b"not a tfrecord at all" * 20)
    job = run_job(tmp_path, RLDS)
    bad = [name for name, row in job.ledger.items() if row["outcome"] == "quarantined"]
    assert bad and all(
        job.ledger[name]["rule"] in ("wrong_format", "corrupt", "truncated", "declared_absent") for name in bad
    )
    assert_others_kept(job, *bad)


def test_truncated_hdf5(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 2: motion(1)})
    write_isaac(tmp_path / "isaac/b.hdf5", {0: motion(2)})
    broken = tmp_path / "isaac/b.hdf5"
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    job = run_job(tmp_path, ISAAC)
    bad = [name for name in job.ledger if name.startswith("i/b")]
    assert len(bad) == 1
    assert_quarantined(job, bad[0], "truncated", "b.hdf5")
    assert_others_kept(job, *bad)


def test_shape_change_inside_hdf5_episode(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1), 2: motion(2)})
    with h5py.File(tmp_path / "isaac/a.hdf5", "r+") as file:
        del file["data/demo_1/obs/eef_pos"]
        file["data/demo_1/obs/eef_pos"] = np.zeros((11, 3), "f4")
    job = run_job(tmp_path, ISAAC)
    assert_quarantined(job, "i/a/000001", "shape_changed", "11", "40", "eef_pos")
    assert_others_kept(job, "i/a/000001")


def test_bit_flip_in_hdf5_with_checksums(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    with h5py.File(tmp_path / "isaac/a.hdf5", "r+") as file:
        values = file["data/demo_1/obs/eef_pos"][()]
        del file["data/demo_1/obs/eef_pos"]
        stored = file["data/demo_1/obs"].create_dataset("eef_pos", data=values, chunks=values.shape, fletcher32=True)
        at = stored.id.get_chunk_info(0).byte_offset
    data = bytearray((tmp_path / "isaac/a.hdf5").read_bytes())
    data[at + 100] ^= 1
    (tmp_path / "isaac/a.hdf5").write_bytes(bytes(data))
    job = run_job(tmp_path, ISAAC)
    assert_quarantined(job, "i/a/000001", "corrupt", "a.hdf5", "eef_pos")
    assert_others_kept(job, "i/a/000001")


def test_bit_flip_in_the_structure_of_hdf5(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    with h5py.File(tmp_path / "isaac/a.hdf5") as file:
        at = h5py.h5o.get_info(file["data/demo_1/states"].id).addr
    data = bytearray((tmp_path / "isaac/a.hdf5").read_bytes())
    data[at] ^= 0xFF
    (tmp_path / "isaac/a.hdf5").write_bytes(bytes(data))
    job = run_job(tmp_path, ISAAC)
    assert_quarantined(job, "i/a/000001", "corrupt", "a.hdf5", "again")
    assert_others_kept(job, "i/a/000001")


def test_absurd_size_in_hdf5(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    with h5py.File(tmp_path / "isaac/a.hdf5", "r+") as file:
        del file["data/demo_1/actions"]
        file["data/demo_1"].create_dataset("actions", (1 << 40, 8), "f4", chunks=(1024, 8))
    job = run_job(tmp_path, ISAAC)
    assert_quarantined(job, "i/a/000001", "absurd_size", str(1 << 45), "actions", "write it again")
    assert_others_kept(job, "i/a/000001")


def test_empty_hdf5_demo(tmp_path: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: np.zeros((0, 7), "f4")})
    job = run_job(tmp_path, ISAAC)
    assert_quarantined(job, "i/a/000001", "empty", "demo_1")
    assert_others_kept(job, "i/a/000001")


def test_shape_change_inside_tfrecord_episode(tmp_path: Path) -> None:
    example = EXAMPLE.FromString(rlds_example(1))
    del example.features.feature["steps/observation/state"].float_list.value[-3:]
    write_rlds(tmp_path / "rlds", [[rlds_example(0), example.SerializeToString(deterministic=True)]])
    job = run_job(tmp_path, RLDS)
    assert_quarantined(job, "r/train/000001", "shape_changed", "observation/state", "317")
    assert_others_kept(job, "r/train/000001")


@pytest.mark.parametrize("name", ["features.json", "dataset_info.json"])
def test_broken_metadata_of_one_source_leaves_the_other(tmp_path: Path, rlds: list[Path], name: str) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(5)})
    (tmp_path / "rlds" / name).write_text('{"splits": [')
    job = run_job(tmp_path, f"{RLDS}\n{ISAAC}")
    assert job.status == 0 and job.ledger["i/a/000000"]["outcome"] == "kept"
    rows = [row for row in job.ledger.values() if row["source"] == "r"]
    spoken = [row["detail"] or "" for row in rows if row["outcome"] == "quarantined"]
    findings = [f["detail"] for path in (job.output / "evidence").rglob("*.parquet") for f in _rows(path)]
    assert any(name in text for text in spoken + findings), (spoken, findings)


def test_broken_metadata_of_lerobot(tmp_path: Path, lerobot: Path) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(5)})
    (lerobot / "meta/info.json").write_text('{"fps": ')
    job = run_job(tmp_path, f"{LEROBOT}\n{ISAAC}")
    assert job.status == 0 and job.ledger["i/a/000000"]["outcome"] == "kept"
    (row,) = [row for row in job.ledger.values() if row["source"] == "l"]
    assert row["outcome"] == "quarantined" and "info.json" in row["detail"]


def _rows(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.ParquetFile(path).read().to_pylist()
    return rows


def test_nan_and_infinity_are_findings_that_reject(tmp_path: Path) -> None:
    poisoned = motion(1)
    poisoned[7, 2], poisoned[9, 3] = np.nan, np.inf
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: poisoned})
    job = run_job(tmp_path, ISAAC)
    row = job.ledger["i/a/000001"]
    assert (row["outcome"], row["rule"]) == ("rejected", "integrity.nan")
    assert row["value"] > 0 and row["threshold"] == 0
    assert_others_kept(job, "i/a/000001")


@pytest.fixture()
def lerobot(tmp_path: Path) -> Path:
    write_lerobot_v21(tmp_path / "lerobot", {i: motion(10 + i) for i in range(3)})
    return tmp_path / "lerobot"


def test_truncated_and_flipped_parquet(tmp_path: Path, lerobot: Path) -> None:
    first, second = (lerobot / f"data/chunk-000/episode_{i:06d}.parquet" for i in (0, 1))
    first.write_bytes(first.read_bytes()[:-200])
    # Parquet states checksums of its pages only where its writer is asked to
    pq.write_table(pq.read_table(second), second, write_page_checksum=True)
    data = bytearray(second.read_bytes())
    data[300] ^= 1
    second.write_bytes(bytes(data))
    job = run_job(tmp_path, LEROBOT)
    assert job.ledger["l/train/000000"]["rule"] in ("truncated", "corrupt")
    assert job.ledger["l/train/000001"]["rule"] == "corrupt"
    for index in (0, 1):
        row = job.ledger[f"l/train/{index:06d}"]
        assert row["outcome"] == "quarantined" and f"episode_{index:06d}.parquet" in row["detail"]
    assert_others_kept(job, "l/train/000000", "l/train/000001")


@pytest.mark.parametrize("part", ["page header", "footer", "footer length"])
def test_bit_flip_in_the_structure_of_parquet(tmp_path: Path, lerobot: Path, part: str) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[{"page header": 5, "footer": footer, "footer length": -6}[part]] ^= 0x80
    path.write_bytes(bytes(data))
    job = run_job(tmp_path, LEROBOT)
    assert_quarantined(job, "l/train/000001", "corrupt", "episode_000001.parquet", "restore the file")
    assert_others_kept(job, "l/train/000001")


def test_parquet_that_is_text(tmp_path: Path, lerobot: Path) -> None:
    (lerobot / "data/chunk-000/episode_000002.parquet").write_text("state,action\n1,2\n")
    job = run_job(tmp_path, LEROBOT)
    assert job.ledger["l/train/000002"]["rule"] in ("wrong_format", "corrupt", "truncated")
    assert_others_kept(job, "l/train/000002")


def test_declared_video_that_does_not_exist_is_a_finding(tmp_path: Path, lerobot: Path) -> None:
    (lerobot / "videos/chunk-000/observation.images.front/episode_000001.mp4").unlink()
    job = run_job(tmp_path, LEROBOT)
    assert_others_kept(job)
    findings = pq.read_table(next((job.output / "evidence").rglob("*.parquet"))).to_pylist()
    absent = [f for f in findings if f["check"] == "integrity.camera_absent"]
    assert [f["episode_id"] for f in absent] == ["l/train/000001"] and "front" in absent[0]["detail"]


@pytest.mark.parametrize(
    ("damage", "outcome", "findings"),
    [
        ("truncated", "kept", ["integrity.video_unreadable"]),
        ("text", "kept", ["integrity.video_unreadable"]),
        ("flipped", "quarantined", []),
    ],
)
def test_a_video_without_a_header_is_a_finding_and_one_that_cannot_be_decoded_quarantines(
    tmp_path: Path, lerobot: Path, damage: str, outcome: str, findings: list[str]
) -> None:
    video = lerobot / "videos/chunk-000/observation.images.front/episode_000001.mp4"
    data = bytearray(video.read_bytes())
    if damage == "truncated":
        video.write_bytes(data[: len(data) // 2])
    elif damage == "text":
        video.write_text("this is no video\n" * 100)
    else:
        data[200:1200] = bytes(b ^ 0x5A for b in data[200:1200])
        video.write_bytes(data)
    job = run_job(tmp_path, LEROBOT)
    rows = job.ledger
    assert job.status == 0 and rows["l/train/000000"]["outcome"] == rows["l/train/000002"]["outcome"] == "kept"
    table = pq.read_table(next((job.output / "evidence").rglob("*.parquet"))).to_pylist()
    named = [f["check"] for f in table if f["episode_id"] == "l/train/000001" and "video" in f["check"] + f["detail"]]
    assert (rows["l/train/000001"]["outcome"], named) == (outcome, findings)
    assert outcome == "kept" or rows["l/train/000001"]["rule"] == "corrupt"


def test_required_column_that_does_not_exist_quarantines(tmp_path: Path, lerobot: Path) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    job = run_job(tmp_path, LEROBOT)
    assert_quarantined(job, "l/train/000001", "required_missing", "action")
    assert_others_kept(job, "l/train/000001")


def test_column_that_is_not_required_is_a_finding(tmp_path: Path, lerobot: Path) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["action"]), path)
    job = run_job(tmp_path, "  - {name: l, path: lerobot, embodiment: panda}")
    assert job.ledger["l/train/000001"]["outcome"] != "quarantined"


def test_shape_change_inside_parquet(tmp_path: Path, lerobot: Path) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    states = [row[:5] if i > 20 else row for i, row in enumerate(table["observation.state"].to_pylist())]
    at = table.schema.get_field_index("observation.state")
    pq.write_table(table.set_column(at, "observation.state", pa.array(states, pa.list_(pa.float32()))), path)
    job = run_job(tmp_path, LEROBOT)
    assert_quarantined(job, "l/train/000001", "shape_changed", "observation.state")
    assert_others_kept(job, "l/train/000001")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda t: np.concatenate([t[:10], t[11:12], t[10:11], t[12:]]), "timestamps.backward"),
        (lambda t: np.concatenate([t[:10], t[9:10], t[11:]]), "timestamps.equal"),
        (lambda t: np.concatenate([t[:10], [np.nan], t[11:]]), "timestamps.missing"),
    ],
)
def test_wrong_clocks_are_findings_that_reject(
    tmp_path: Path, lerobot: Path, change: Callable[[np.ndarray], np.ndarray], rule: str
) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    table = pq.read_table(path)
    times = pa.array(change(table["timestamp"].to_numpy()).astype("f4"), from_pandas=True)
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", times), path)
    job = run_job(tmp_path, LEROBOT)
    row = job.ledger["l/train/000001"]
    assert (row["outcome"], row["rule"], row["value"]) == ("rejected", rule, 1.0)
    assert_others_kept(job, "l/train/000001")


def test_empty_parquet_episode(tmp_path: Path, lerobot: Path) -> None:
    write_lerobot_episode(lerobot / "data/chunk-000/episode_000001.parquet", 1, np.zeros((0, 7), "f4"), 0, 20)
    job = run_job(tmp_path, LEROBOT)
    assert_quarantined(job, "l/train/000001", "empty")
    assert_others_kept(job, "l/train/000001")


def test_file_that_cannot_be_opened(tmp_path: Path, lerobot: Path) -> None:
    path = lerobot / "data/chunk-000/episode_000001.parquet"
    path.unlink()
    path.mkdir()
    job = run_job(tmp_path, LEROBOT)
    row = job.ledger["l/train/000001"]
    assert row["outcome"] == "quarantined" and "episode_000001.parquet" in row["detail"]
    assert_others_kept(job, "l/train/000001")


@pytest.mark.parametrize(("damage", "rules"), [("truncated", ("truncated", "corrupt")), ("text", ("wrong_format",))])
def test_broken_plain_video_is_quarantined(tmp_path: Path, damage: str, rules: tuple[str, ...]) -> None:
    write_video(tmp_path / "video/a.mp4", 40)
    write_video(tmp_path / "video/b.mp4", 40, seed=1)
    data = (tmp_path / "video/b.mp4").read_bytes()
    (tmp_path / "video/b.mp4").write_bytes(data[: len(data) // 2] if damage == "truncated" else b"no video\n" * 99)
    job = run_job(tmp_path, VIDEO)
    row = job.ledger["v/b"]
    assert row["outcome"] == "quarantined" and row["rule"] in rules and "b.mp4" in row["detail"], row
    assert job.status == 0 and job.ledger["v/a"]["outcome"] == "kept"


def test_column_of_another_type_in_one_recording(tmp_path: Path) -> None:
    for index, noun in enumerate(("0.5", "0.25", "broken")):
        write_video(tmp_path / f"video/v{index}.mp4", 30, seed=index)
        rows = [f"{k / 20},{np.sin(k + index)},{noun}" for k in range(30)]
        (tmp_path / f"video/v{index}.csv").write_text("\n".join(["timestamp,x,torque", *rows]) + "\n")
    job = run_job(tmp_path, VIDEO)
    row = job.ledger["v/v2"]
    assert (row["outcome"], row["rule"]) == ("rejected", "integrity.column_type"), row
    assert all(word in row["detail"] for word in ("torque", "string", "double", "2 of 3")), row["detail"]
    assert_others_kept(job, "v/v2")


def test_integers_beyond_float_precision_are_data(tmp_path: Path) -> None:
    write_video(tmp_path / "video/a.mp4", 30)
    rows = [f"{k / 20},{np.sin(k)},{1_700_000_000_000_000_001 + k}" for k in range(30)]
    (tmp_path / "video/a.csv").write_text("\n".join(["timestamp,x,header.stamp_ns", *rows]) + "\n")
    job = run_job(tmp_path, VIDEO)
    assert_others_kept(job)
    (part,) = (job.output / "transitions").rglob("*.parquet")
    assert 1_700_000_000_000_000_001 in pq.ParquetFile(part).read(["header.stamp_ns"]).column(0).to_pylist()


def test_unknown_file_in_a_folder_is_quarantined_not_skipped(tmp_path: Path) -> None:
    write_video(tmp_path / "video/a.mp4", 40)
    (tmp_path / "video/notes.bin").write_bytes(b"\0\1\2 what is this")
    job = run_job(tmp_path, VIDEO)
    row = job.ledger["v/notes.bin"]
    assert (row["outcome"], row["rule"]) == ("quarantined", "unknown_format")
    assert job.ledger["v/a"]["outcome"] != "quarantined"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("  - {name: a, path: nowhere}", "there is nothing at"),
        ("  - {name: a, path: '*.hdf5'}", "no file matches the glob"),
        ("  - {name: a, path: hollow}", "is empty"),
        ("  - {name: a, path: hollow, embodiment: pandas}", "did you mean 'panda'?"),
        ("  - {name: a/b, path: hollow}", "source name 'a/b'"),
        ("  - {name: a, path: hollow, formt: rlds}", "did you mean 'format'?"),
        ("  - {name: a, path: x}\n  - {name: a, path: y}", "there is nothing at"),
        ("  - {name: a, path: hollow, format: rdls}", "did you mean 'rlds'?"),
    ],
)
def test_bad_configuration_fails_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: str, message: str
) -> None:
    (tmp_path / "hollow").mkdir()
    job = run_job(tmp_path, sources)
    shown = capsys.readouterr().err
    assert job.status == 2 and message in shown and "job.yaml:" in shown
    assert not (tmp_path / "out").exists(), "work began before the configuration was checked"


def test_output_folder_that_holds_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: motion(1)})
    assert run_job(tmp_path, ISAAC).status == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    job = run_job(tmp_path, ISAAC + "\n" + ISAAC.replace("name: i", "name: j"))
    assert job.status == 2 and "another" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}


def test_output_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0)})
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("precious")
    assert run_job(tmp_path, ISAAC).status == 2
    assert (tmp_path / "out/thesis.tex").read_text() == "precious"
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["thesis.tex"]
