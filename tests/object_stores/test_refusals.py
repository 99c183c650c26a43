"""What is not done on a store is refused in words, without a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from tests.factories import motion, write_isaac
from tests.job import write_config
from transforms.sources import rosbag2
from transforms.stores.paths import ObjectPath

URL = "s3://bucket/set"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("path: 'az://box/set'", "no store is known by az://; gs:// and s3:// are read"),
        (f"path: '{URL}', format: rosbag2", ".db3 bags are read from local files alone"),
        (f"path: '{URL}', format: rlds, reader: tensorflow", "`reader: tensorflow` reads local files alone"),
    ],
)
def test_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str) -> None:
    config = write_config(tmp_path, f"  - {{name: lab, {source}}}")
    assert main(["--config", str(config), "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_db3_bag_in_a_folder() -> None:
    problem = rosbag2._problem(ObjectPath("s3://bucket/set/a.db3"))
    assert problem is not None and "copy it here, or convert it to MCAP" in problem.detail


def test_a_path_of_commands_that_read_local_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", URL, "--output", str(tmp_path / "out")]) == 2
    assert f"write a configuration with `path: {URL}`" in capsys.readouterr().err
    assert main(["inspect", URL]) == 2
    assert "inspect reads local files alone" in capsys.readouterr().err


def test_an_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_isaac(tmp_path / "in/demos.hdf5", {0: motion(1)})
    config = write_config(tmp_path, "  - {name: lab, path: in, embodiment: panda}")
    for command in ("curate", "decide", "evidence"):
        assert main([command, "--config", str(config), "--output", URL]) == 2
        assert f"work in a local folder, and add --publish {URL}" in capsys.readouterr().err
    assert main(["curate", "--config", str(config), "--output", str(tmp_path / "out"), "--publish", "out"]) == 2
    assert "--publish out is no URL of a store" in capsys.readouterr().err
    assert main(["evidence", "--config", str(config), "--output", str(tmp_path / "out"), "--publish", URL]) == 2
    assert "evidence publishes nothing" in capsys.readouterr().err
    assert main(["curate", str(tmp_path / "in"), "--output", URL]) == 2
    assert f"add --publish {URL}" in capsys.readouterr().err


def test_writing_to_an_object() -> None:
    with pytest.raises(OSError, match="objects are only read"):
        ObjectPath(URL).open("wb")
