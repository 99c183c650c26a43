"""What a store that fails costs, against moto and fake-gcs-server: retries, and what is told where they do not help."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from benchmarks.store_servers import Fault, Store
from tests.factories import motion, rlds_example, write_isaac, write_lerobot_v21, write_rlds, write_video
from tests.job import write_config
from tests.object_stores.reading import PANDA, pictures
from transforms.conventions import Source
from transforms.episode import RecordingRef
from transforms.loader import ReadRecording, plan
from transforms.stores.paths import forget, located
from transforms.unreadable import Unreadable


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
