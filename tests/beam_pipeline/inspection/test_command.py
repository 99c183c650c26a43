"""The command `inspect`: exit statuses, usage, text for people."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.inspection.report import DatasetReport, Instruction, Notices, Stream
from beam_pipeline.inspection.text import block, facts, totals
from tests.factories import motion, write_lerobot_v21

ROOT = Path(__file__).parents[3]
Capture = pytest.CaptureFixture[str]


def test_usage(capsys: Capture) -> None:
    assert main(["inspect", "--help"]) == 0
    assert "usage: python -m beam_pipeline inspect PATH... [--json]" in capsys.readouterr().out
    assert main(["inspect"]) == 2
    assert "error: inspect needs a PATH" in capsys.readouterr().err
    assert main(["inspect", "here", "--jsn"]) == 2
    assert "unrecognized arguments: --jsn" in capsys.readouterr().err


def test_it_is_listed(capsys: Capture) -> None:
    assert main(["--help"]) == 0
    assert re.search(r"inspect +what recordings are", capsys.readouterr().out)


def test_a_sound_set_in_words(tmp_path: Path, capsys: Capture) -> None:
    write_lerobot_v21(tmp_path, {0: motion(0, 30)})
    assert main(["inspect", str(tmp_path)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        str(tmp_path),
        "  format        lerobot, v2.1, robot toy",
        "  episodes      1 (train 1) in 2 files",
        "  steps         30, 1.5 s at 20 Hz",
        "  streams       action  float32[7]  20 Hz",
        "                observation.state  float32[7]  20 Hz",
        "  cameras       front  mpeg4  64x64  20 Hz  1 file",
        '  instructions  "push the block to the left"  (1 episode)',
        "",
        "1 data set, 0 errors, 0 warnings, 0 notes",
    ]


def test_warnings_do_not_fail_and_errors_do(tmp_path: Path, capsys: Capture) -> None:
    write_lerobot_v21(tmp_path, {0: motion(0, 30)}, video=False)
    info = tmp_path / "meta/info.json"
    info.write_text(info.read_text().replace('"total_frames": 30', '"total_frames": 31'))
    assert main(["inspect", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "  warning DATA-202  `total_frames` is not the sum of the listed lengths" in out
    assert "          declared 31, listed 30\n          -> correct info.json\n" in out
    (tmp_path / "data/chunk-000/episode_000000.parquet").unlink()
    assert main(["inspect", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "  error   DATA-101" in out and "1 named, 0 on disk" in out
    assert "1 data set, 1 error, 1 warning, 0 notes; docs/inspect.md lists the codes" in out


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "beam_pipeline", "inspect", str(tmp_path / "a[bold]gone[/bold]")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert done.stdout.startswith(f"{tmp_path}/a[bold]gone[/bold]\n  error   DATA-001")


def test_many_streams_and_instructions_are_told_in_short() -> None:
    streams = tuple(Stream(f"column_{i}", "float32", (None, 3)) for i in range(30))
    instructions = tuple(Instruction(f"do {i}", i) for i in range(9))
    report = DatasetReport(
        "p", "rlds", streams=streams, instructions=instructions, n_instructions=1200, duration_s=7200
    )
    told = [value for _, value in facts(report)]
    assert "column_0  float32[?,3]" in told and "and 6 more (--json lists all)" in told
    assert "and 1,195 more" in told and "2.00 h" in told
    assert totals([report]) == "1 data set, 0 errors, 0 warnings, 0 notes"


def test_notices_are_counted_and_keep_three_examples() -> None:
    notices = Notices()
    for index in range(5):
        notices.add("metadata.length", f"file {index}", 2)
    notices.add("truncated", "file x is cut off")
    report = DatasetReport("p", "lerobot", notices=notices.made())
    assert [(n.code, n.count, len(n.examples)) for n in report.notices] == [("DATA-006", 1, 1), ("DATA-208", 10, 3)]
    lines = [line.plain for line in block(report)]
    assert any("DATA-208" in line and line.endswith("(x10)") for line in lines)


def test_it_starts_without_beam() -> None:
    """Beam and what it loads take longer than the inspection of most sets."""
    heavy = ("apache_beam", "pandas", "scipy")
    code = f"import sys, beam_pipeline.commands.inspect; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"
