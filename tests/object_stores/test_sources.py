"""Sources on stores, against moto and fake-gcs-server: every format, what is fetched, what a failing store costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from benchmarks.store_corpora import LargeFile, hdf5, parquet
from benchmarks.store_servers import Fault, Store
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.job import digests, run_job, write_config
from tests.object_stores.sample import FOLDERS, write_sample
from transforms.conventions import Embodiment, Source
from transforms.episode import ImageRef, Recording, RecordingRef, VideoRef
from transforms.loader import ReadRecording, plan, read_images
from transforms.media import shared_decoder
from transforms.stores.paths import forget, located
from transforms.unreadable import Unreadable

PANDA = {"panda": Embodiment(rate_hz=20)}


def read(root: str, only: frozenset[int] | None = None) -> list[tuple[Recording, list[bytes]]]:
    """The recordings of a source, and all their pictures."""
    source = Source("lab", root, embodiment="panda")
    reader = ReadRecording({"lab": source}, PANDA)
    reader.setup()
    found = []
    for number, ref in enumerate(plan(source)):
        if only is None or number in only:
            (recording,) = reader.process_element(ref)
            found.append((recording, [picture for shown in recording.videos.values() for picture in pictures(shown)]))
    return found


def pictures(shown: ImageRef | VideoRef) -> list[bytes]:
    if isinstance(shown, ImageRef):
        return read_images(shown, range(shown.count))
    return [chunk.frames.tobytes() for chunk in shared_decoder().decode_frames(shown)]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


def test_every_format_reads_as_from_local_files(objects: Store, sample: Path) -> None:
    url = objects.put_folder("formats", sample)
    local, stored = read(str(sample)), read(url)
    assert len(local) == 10
    for (one, seen), (other, shown) in zip(local, stored, strict=True):
        assert (one.recording_id, one.format) == (other.recording_id, other.format)
        assert one.streams == other.streams
        assert seen == shown
        for what in ("utterances", "attributes", "success", "findings", "explicit", "conventions"):
            assert getattr(one, what) == getattr(other, what), (one.recording_id, what)
        assert other.uri == f"{url}/{Path(one.uri).relative_to(sample).as_posix()}"
    assert {one.format for one, _ in local} >= {
        "isaac_hdf5",
        "aloha_hdf5",
        "lerobot",
        "rlds",
        "mcap",
        "rosbag1",
        "video",
    }


def test_a_run_over_a_store_writes_what_a_run_over_local_files_writes(
    objects: Store, sample: Path, tmp_path: Path
) -> None:
    url = objects.put_folder("run", sample)
    without_video = [name for name in FOLDERS if name not in ("lerobot", "video")]

    def sources(root: str) -> str:
        return "\n".join(f"  - {{name: {name}, path: '{root}/{name}', embodiment: panda}}" for name in without_video)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    local = run_job(tmp_path / "a", sources(str(sample)))
    stored = run_job(tmp_path / "b", sources(url))
    assert local.status == stored.status == 0
    assert stored.outcomes() == local.outcomes()
    assert digests(stored.output) == digests(local.output)


def test_patterns_name_what_they_name_locally(objects: Store, sample: Path) -> None:
    url = objects.put_folder("patterns", sample)
    for pattern in ("*/*.hdf5", "**/*.hdf5", "bags/*.[mb]*", "lerobot", "nothing/*"):
        found = [ref.uri.removeprefix(url) for ref in plan(Source("lab", f"{url}/{pattern}"))]
        assert found == [ref.uri.removeprefix(str(sample)) for ref in plan(Source("lab", f"{sample}/{pattern}"))]


@pytest.mark.parametrize("corpus", [hdf5, parquet], ids=["hdf5", "parquet"])
def test_an_episode_out_of_a_large_file_fetches_its_bytes(
    objects: Store, tmp_path: Path, corpus: Callable[[Path, float], LargeFile]
) -> None:
    large = corpus(tmp_path / "in", 60.0)
    url = objects.put_folder(f"large-{large.name}", large.folder)
    objects.proxy.forget()
    every_other = range(1, len(large.bytes_of), 2)
    assert len(read(url, frozenset(every_other))) == 25
    assert objects.proxy.bytes_of("") <= 1.1 * sum(large.bytes_of[number] for number in every_other)


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "hang"])
def test_a_passing_error_is_tried_again(
    objects: Store, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEMOSIFT_STORE_TIMEOUT_S", "2" if fault == "hang" else "60")
    path = tmp_path / "bytes.bin"
    path.write_bytes(bytes(range(256)) * 400)
    with located(objects.put(f"passing/{fault}.bin", path)).open("rb") as file:
        objects.proxy.break_next(fault, only=f"{fault}.bin")
        assert file.pread(1000, 70_000) == path.read_bytes()[70_000:71_000]
    assert not objects.proxy.faults


def _one(objects: Store, name: str, sample: Path) -> tuple[ReadRecording, RecordingRef]:
    source = Source("lab", objects.put_folder(f"down/{name}", sample / name), embodiment="panda")
    reader = ReadRecording({"lab": source}, PANDA)
    reader.setup()
    return reader, next(iter(plan(source)))


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are too long to be fetched at once."""
    folder = tmp_path_factory.mktemp("long")
    write_isaac(folder / "isaac/demos.hdf5", {0: motion(1, 8000)})
    write_lerobot_v21(folder / "lerobot", {0: motion(2, 8000)}, video=False)
    write_video(folder / "video/pick.mp4", 200, size=256)
    write_rlds(folder / "rlds/1.0.0", [[rlds_example(5, 400)]])
    return folder


@pytest.mark.parametrize(
    ("name", "skip"), [("isaac", 0), ("isaac", 1), ("lerobot", 0), ("lerobot", 3), ("rlds", 1), ("video", 1)]
)
def test_a_store_that_goes_down_is_no_damage_of_the_file(
    objects: Store, long: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, skip: int
) -> None:
    reader, ref = _one(objects, name, long)
    monkeypatch.setenv("DEMOSIFT_STORE_TIMEOUT_S", "0.15")
    monkeypatch.setenv("DEMOSIFT_OBJECT_CACHE", str(tmp_path / "other"))
    objects.proxy.break_next(*["503"] * 200, only=Path(ref.uri).name, skip=skip)
    with pytest.raises(Unreadable) as told:
        (recording,) = reader.process_element(ref)
        for shown in recording.videos.values():
            pictures(shown)
    assert told.value.problem.rule == "unreadable"
    assert "4 tries failed" in told.value.problem.detail


def test_what_goes_away_after_it_was_planned_is_absent(objects: Store, sample: Path) -> None:
    reader, ref = _one(objects, "isaac", sample)
    objects.remove("down/isaac/demos.hdf5")
    forget()
    with pytest.raises(Unreadable) as told:
        reader.process_element(ref)
    assert told.value.problem.rule == "absent"


def test_what_is_replaced_while_it_is_read_is_told(objects: Store, tmp_path: Path) -> None:
    path = tmp_path / "bytes.bin"
    path.write_bytes(bytes(200_000))
    with located(objects.put("replaced.bin", path)).open("rb") as file:
        path.write_bytes(bytes([1]) * 200_000)
        objects.put("replaced.bin", path)
        with pytest.raises(Unreadable, match="was replaced while it was read; run again"):
            file.pread(10, 100_000)


def test_a_missing_object_is_quarantined(objects: Store, tmp_path: Path) -> None:
    write_lerobot_v21(tmp_path / "set", {0: motion(3), 1: motion(4)}, video=False)
    url = objects.put_folder("missing", tmp_path / "set")
    objects.remove("missing/data/chunk-000/episode_000001.parquet")
    job = run_job(
        tmp_path, f"  - {{name: lab, path: '{url}', embodiment: panda}}", "\ngates: {max_rejected_fraction: 1}"
    )
    assert job.status == 0
    row = job.ledger["lab/train/000001"]
    assert (row["outcome"], row["rule"]) == ("quarantined", "declared_absent")
    assert job.ledger["lab/train/000000"]["outcome"] == "kept"


def test_refused_credentials_fail_before_any_work(
    objects: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_isaac(tmp_path / "in/demos.hdf5", {0: motion(1)})
    url = objects.put_folder("refused", tmp_path / "in")
    config = write_config(tmp_path, f"  - {{name: lab, path: '{url}', embodiment: panda}}")
    objects.proxy.break_next(*["403"] * 50)
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert "the store refuses the credentials" in capsys.readouterr().err
    objects.proxy.break_next(
        *["403"] * 50, only="demos.hdf5?" if objects.scheme == "gs" else "GET /recordings/refused/"
    )
    forget()
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert "the store refuses the credentials" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    objects.proxy.forget()
    forget()
    assert main(["--config", str(config), "--output", str(tmp_path / "out"), "--publish", objects.url("new")]) == 0
    assert "manifest 1" in capsys.readouterr().out


def test_nothing_at_a_url_is_told(objects: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, f"  - {{name: lab, path: '{objects.url('nowhere')}', embodiment: panda}}")
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert f"there is nothing at {objects.url('nowhere')}" in capsys.readouterr().err
