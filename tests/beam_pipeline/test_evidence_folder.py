"""Stored evidence: runs of two sources at once, locks, and what a new measurement leaves of the old."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.evidence_folder import hold_sources, read_source, source_folder
from beam_pipeline.output_folder import OutputError, open_output
from tests.factories import motion, write_isaac
from tests.job import digests, write_config

ROOT = Path(__file__).parents[2]
SOURCES = """\
  - {name: a, path: a.hdf5, format: isaac_hdf5, embodiment: panda}
  - {name: b, path: b.hdf5, format: isaac_hdf5, embodiment: panda}"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_isaac(tmp_path / "a.hdf5", {0: motion(1), 1: motion(2)})
    write_isaac(tmp_path / "b.hdf5", {0: motion(3), 1: motion(4)})
    return write_config(tmp_path, SOURCES)


def test_two_sources_at_once_and_one_after_the_other_store_the_same(tmp_path: Path, config: Path) -> None:
    command = [sys.executable, "-m", "beam_pipeline", "evidence", "--config", str(config)]
    both = [
        subprocess.Popen([*command, "--output", str(tmp_path / "once"), "--source", name], cwd=ROOT) for name in "ab"
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert main(["evidence", "--config", str(config), "--output", str(tmp_path / "all")]) == 0
    assert digests(tmp_path / "once") == digests(tmp_path / "all")
    assert len(digests(tmp_path / "all")) == 6
    left = {p.name for p in (tmp_path / "once").rglob("*") if p.is_file()}
    assert left == {"source.json", *(Path(p).name for p in digests(tmp_path / "all"))}, (
        "no lock and no staged file is left"
    )


def test_who_may_work_beside_whom(tmp_path: Path) -> None:
    with hold_sources(tmp_path, ["a"]), hold_sources(tmp_path, ["b"]):
        with pytest.raises(OutputError, match=r"writes in .*source=a now"), hold_sources(tmp_path, ["a"]):
            pass
        with pytest.raises(OutputError, match=r"another run \(process \d+\) writes in"), open_output(tmp_path, "c"):
            pass
    refused = pytest.raises(OutputError, match=r"another run \(process \d+\) writes in")
    with open_output(tmp_path, "c"), refused, hold_sources(tmp_path, ["a"]):
        pass
    with hold_sources(tmp_path, ["a"]):
        pass


def test_measuring_anew_replaces_a_source_and_leaves_the_other(tmp_path: Path, config: Path) -> None:
    output = tmp_path / "out"
    assert main(["evidence", "--config", str(config), "--output", str(output)]) == 0
    first, other = read_source(output, "a"), read_source(output, "b")
    write_isaac(tmp_path / "a.hdf5", {0: motion(1), 1: motion(9)})
    assert main(["evidence", "--config", str(config), "--output", str(output), "--source", "a"]) == 0
    second = read_source(output, "a")
    assert first is not None and second is not None and first.folder != second.folder
    assert [p.name for p in source_folder(output, "a").iterdir() if p.is_dir()] == [second.folder]
    assert read_source(output, "b") == other
    (source_folder(output, "a") / "source.json").write_text("{")
    with pytest.raises(OutputError, match=r"source.json is damaged"):
        read_source(output, "a")
