"""`curate PATH --output DIR`: the guessed file is written, used and kept; by --config it gives the same bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from beam_pipeline.__main__ import main
from beam_pipeline.commands.curate import split_paths
from examples.make_sample import make_sample
from tests.factories import motion, write_isaac, write_lerobot_v21, write_video
from tests.job import digests, read_ledger

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "in"
    make_sample(folder, seed=7, episodes=8)
    return folder


def test_the_sample_and_again_by_the_file(sample: Path, tmp_path: Path, capsys: Capture) -> None:
    output = tmp_path / "out"
    assert main(["curate", str(sample), "--output", str(output)]) == 0
    out = capsys.readouterr().out
    assert f"configuration: {output}/config.yaml" in out and "  guessed     " in out and "  undeclared  " in out
    sources = yaml.safe_load((output / "config.yaml").read_text())["sources"]
    assert [(s["name"], s["format"]) for s in sources] == [
        ("isaac", "isaac_hdf5"),
        ("lerobot", "lerobot"),
        ("rlds", "rlds"),
    ]
    ledger = read_ledger(output)
    assert {row["source"] for row in ledger.values() if row["outcome"] == "kept"} == {"isaac", "lerobot", "rlds"}
    by_hand = tmp_path / "by_hand"
    assert main(["curate", "--config", str(output / "config.yaml"), "--output", str(by_hand)]) == 0
    assert digests(by_hand) == digests(output) and len(digests(output)) > 6
    assert not (by_hand / "config.yaml").exists()


def test_a_second_run_by_path_and_by_config_is_the_same_run(tmp_path: Path, capsys: Capture) -> None:
    write_isaac(tmp_path / "data/a.hdf5", {0: motion(0), 1: motion(1)})
    output = tmp_path / "out"
    assert main(["curate", str(tmp_path / "data"), "--output", str(output)]) == 0
    first, text = digests(output), (output / "config.yaml").read_bytes()
    assert main(["curate", str(tmp_path / "data"), f"--output={output}"]) == 0
    assert main(["curate", "--config", str(output / "config.yaml"), "--output", str(output)]) == 0
    assert (digests(output), (output / "config.yaml").read_bytes()) == (first, text)
    assert (output / "_manifests/00000003.json").exists()
    write_video(tmp_path / "data/v/b.mp4", 10)
    capsys.readouterr()
    assert main(["curate", str(tmp_path / "data"), "--output", str(output)]) == 2
    assert f"{output}/config.yaml is not what is guessed of PATH now; use --config" in capsys.readouterr().err
    assert (output / "config.yaml").read_bytes() == text


def test_formats_side_by_side_each_have_a_source(tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_isaac(data / "arm/a.hdf5", {0: motion(0)})
    write_lerobot_v21(data / "set", {0: motion(1)})
    for name in "ab":
        write_video(data / f"clips/{name}.mp4", 40, seed=ord(name))
    assert main(["curate", str(data), "--output", str(tmp_path / "out")]) == 0
    kept = {row["source"] for row in read_ledger(tmp_path / "out").values() if row["outcome"] == "kept"}
    assert kept == {"arm", "set", "clips"}


def test_bad_input(tmp_path: Path, capsys: Capture) -> None:
    write_isaac(tmp_path / "data/a.hdf5", {0: motion(0)})

    def refused(*arguments: object) -> str:
        capsys.readouterr()
        assert main(["curate", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    data, output = tmp_path / "data", tmp_path / "out"
    assert "there is nothing at" in refused(tmp_path / "gone", "--output", output)
    assert "--output is missing" in refused(data)
    assert "--config is missing, and no PATH is given" in refused("--output", output)
    assert "both --config and the PATH" in refused(data, "--config", "c.yaml", "--output", output)
    assert f"PATH {data} lies in --output {tmp_path}" in refused(data, "--output", tmp_path)
    assert f"--output {data}/out lies in PATH {data}" in refused(data, "--output", data / "out")
    assert not output.exists()
    (tmp_path / "file").write_text("x")
    assert "is a file; --output names a folder" in refused(data, "--output", tmp_path / "file")
    output.mkdir()
    (output / "theirs.txt").write_text("x")
    assert "holds 1 entries that no run wrote there, such as 'theirs.txt'" in refused(data, "--output", output)
    assert [p.name for p in output.iterdir()] == ["theirs.txt"]
    (tmp_path / "odd").mkdir()
    shutil.copy(tmp_path / "file", tmp_path / "odd/notes.txt")
    assert "no reader knows its content" in refused(tmp_path / "odd", "--output", tmp_path / "o2")


def test_words_that_are_paths() -> None:
    assert split_paths(["a", "b", "--output", "o", "--fail_fast", "c", "--runner=X", "d"]) == (
        ["a", "b", "c", "d"],
        ["--output", "o", "--fail_fast", "--runner=X"],
    )


@pytest.mark.parametrize(
    "place", ["lerobot_v30_so101", "lerobot_v21_g1", "rlds", "isaaclab_hdf5", "gr00t", "mcap_prismax"]
)
def test_published_recordings(robot_data: Path, tmp_path: Path, place: str) -> None:
    assert main(["curate", str(robot_data / place), "--output", str(tmp_path / "out")]) == 0
    outcomes = [row["outcome"] for row in read_ledger(tmp_path / "out").values()]
    present = {"lerobot_v30_so101": 4, "lerobot_v21_g1": 2, "rlds": 25, "isaaclab_hdf5": 20, "gr00t": 3}
    assert len([o for o in outcomes if o != "quarantined"]) == present.get(place, 1)
