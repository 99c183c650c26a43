"""`reader: tensorflow` of a source: a whole curation gives the bytes that the reader without TensorFlow gives."""

from __future__ import annotations

from pathlib import Path

import pyarrow.dataset as ds
import pytest

from beam_pipeline.__main__ import main
from tests.factories import frame, motion, rlds_example, write_rlds
from tests.job import digests, write_config
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording, RecordingRef
from transforms.sources import rlds_tensorflow


@pytest.fixture
def read_by_tensorflow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the recordings that TensorFlow's reader was asked for; it reads them as ever."""
    asked: list[str] = []
    read = rlds_tensorflow.read

    def noted(ref: RecordingRef, source: Source, embodiment: Embodiment) -> Recording:
        asked.append(ref.recording_id)
        return read(ref, source, embodiment)

    monkeypatch.setattr(rlds_tensorflow, "read", noted)
    return asked


def curate(folder: Path, path: Path, output: str, more: str = "") -> Path:
    """Curate one set; `more` are keys of its source."""
    source = f"  - {{name: set, path: '{path}', format: rlds, embodiment: panda{more}}}"
    config = write_config(folder, source)
    assert main(["--config", str(config), "--output", str(folder / output)]) == 0
    return folder / output


def both(folder: Path, path: Path) -> tuple[Path, Path]:
    return curate(folder, path, "native"), curate(folder, path, "tensorflow", ", reader: tensorflow")


def ledger(output: Path) -> dict[str, tuple[str, str, str]]:
    """Episode id -> outcome, rule, detail."""
    rows = ds.dataset(output / "ledger", partitioning="hive").to_table().to_pylist()
    return {row["episode_id"]: (row["outcome"], row["rule"], row["detail"]) for row in rows}


def test_bridge_gives_the_same_published_bytes(robot_data: Path, tmp_path: Path, read_by_tensorflow: list[str]) -> None:
    native, by_tensorflow = both(tmp_path, robot_data / "rlds")
    assert len(read_by_tensorflow) == 25 and len(set(read_by_tensorflow)) == 25
    kept = [name for name, (outcome, _, _) in ledger(by_tensorflow).items() if outcome == "kept"]
    assert len(kept) > 20
    assert digests(by_tensorflow) == digests(native) and len(digests(native)) > 5


def test_damage_has_the_same_outcomes(tmp_path: Path, read_by_tensorflow: list[str]) -> None:
    """Of four episodes one has a flipped byte, and the file ends inside the last."""
    examples = [rlds_example(seed, states=motion(seed)) for seed in range(4)]
    (path,) = write_rlds(tmp_path / "toy", [examples])
    data = bytearray(path.read_bytes()[:-60])
    data[len(frame(examples[0])) + 400] ^= 1
    path.write_bytes(bytes(data))
    native, by_tensorflow = both(tmp_path, tmp_path / "toy")
    told = [{name: row[:2] for name, row in ledger(output).items()} for output in (native, by_tensorflow)]
    assert told[0] == told[1]
    assert sorted(told[1].values()) == [
        ("kept", ""),
        ("kept", ""),
        ("quarantined", "corrupt"),
        ("quarantined", "truncated"),
    ]
    assert len(read_by_tensorflow) == 3, "what planning refuses is not read"
    detail = ledger(by_tensorflow)["set/train/000001"][2]
    assert "corrupted record" in detail and "copy it again" in detail


def test_evidence_of_one_reader_serves_the_other(tmp_path: Path) -> None:
    write_rlds(tmp_path / "toy", [[rlds_example(seed) for seed in range(2)]])
    output = curate(tmp_path, tmp_path / "toy", "out")
    before = digests(output)
    assert digests(curate(tmp_path, tmp_path / "toy", "out", ", reader: tensorflow")) == before
