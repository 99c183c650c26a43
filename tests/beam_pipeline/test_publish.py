"""Publishing: whose folder it is, what a gate stops, what a new run leaves of the old one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from beam_pipeline import publish as publishing
from beam_pipeline.output_folder import newest_manifest
from beam_pipeline.publish import Gate, GateParams, Manifest, OutputError, check_gates, open_output, publish
from beam_pipeline.summary import RunSummary, SourceOutcomes, TableSize, summarise, table_sizes
from transforms.file_hash import file_hash
from transforms.output_files import OUT, OutcomeCount, PartReport

SUMMARY = RunSummary("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:09+00:00", 9.0, "c1", "1.0", "x", (), (), ())


def staged(staging: Path, *names: str, text: str = "rows") -> list[PartReport]:
    reports = []
    for name in names:
        path = staging / OUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        reports.append(PartReport(name, 1, len(text), file_hash(path), "a"))
    return reports


def run(folder: Path, *names: str, config: str = "c1", text: str = "rows") -> Manifest:
    with open_output(folder, config) as output:
        return publish(output, staged(output.staging, *names, text=text), "1.0", SUMMARY)


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_run_commits_its_files_and_leaves_no_staging(tmp_path: Path) -> None:
    manifest = run(tmp_path / "out", "episodes/source=a/part-00000.parquet", "videos/ab.mp4")
    assert (manifest.number, manifest.previous, manifest.config_hash) == (1, None, "c1")
    assert names(tmp_path / "out") == [
        "_manifest.json",
        "_manifests/00000001.json",
        "episodes/source=a/part-00000.parquet",
        "run_summary.json",
        "videos/ab.mp4",
    ]
    assert not (tmp_path / "out/_staging").exists()
    body = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert [f["path"] for f in body["files"]] == ["episodes/source=a/part-00000.parquet", "videos/ab.mp4"]
    assert body["files"][0]["hash"] == file_hash(tmp_path / "out/episodes/source=a/part-00000.parquet")
    assert newest_manifest(tmp_path / "out") == manifest


def test_a_second_run_replaces_the_first_and_drops_what_it_does_not_name(tmp_path: Path) -> None:
    run(tmp_path, "episodes/source=a/part-00000.parquet", "episodes/source=b/part-00000.parquet")
    (tmp_path / "report.html").write_text("<p>")
    second = run(tmp_path, "episodes/source=a/part-00000.parquet", text="newer")
    assert (second.number, second.previous) == (2, 1)
    assert "episodes/source=b/part-00000.parquet" not in names(tmp_path)
    assert not (tmp_path / "episodes/source=b").exists()
    assert (tmp_path / "episodes/source=a/part-00000.parquet").read_text() == "newer"
    assert (tmp_path / "_manifests/00000001.json").exists()


@pytest.mark.parametrize("at", ["manifest", "drop"])
def test_what_a_run_killed_while_it_published_left_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    parts = [f"transitions/source=a/part-{i:05d}.parquet" for i in range(3)]
    video = f"videos/{'ab' * 16}.mp4"
    run(tmp_path, *parts[:2] if at == "manifest" else (*parts, video))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "_replace" if at == "manifest" else "_drop_superseded", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, *((*parts, video) if at == "manifest" else parts[:2]), text="newer")
    assert parts[2] in names(tmp_path)
    (tmp_path / "videos/README.md").write_text("not a run's")
    run(tmp_path, *parts[:2], text="newest")
    left = [name for name in names(tmp_path) if "/" in name and not name.startswith("_")]
    assert left == [*parts[:2], "videos/README.md"], "a reader of the whole folder meets no row twice"


def test_another_configuration_is_refused_naming_both(tmp_path: Path) -> None:
    run(tmp_path, "episodes/source=a/part-00000.parquet")
    before = names(tmp_path)
    message = "holds a run of configuration c1, this one is c2; use another --output, or remove the folder"
    with pytest.raises(OutputError, match=message):
        run(tmp_path, config="c2")
    assert names(tmp_path) == before


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match=r"1 entries that no run wrote there, such as 'thesis.tex'; use an empty"):
        run(tmp_path)
    assert names(tmp_path) == ["thesis.tex"]


def test_unmarked_tables_are_foreign_too(tmp_path: Path) -> None:
    (tmp_path / "episodes").mkdir()
    with pytest.raises(OutputError, match="such as 'episodes'"):
        run(tmp_path)


def test_a_file_as_output_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match="x is a file; --output names a folder"):
        run(tmp_path / "x")


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    run(tmp_path, "episodes/source=a/part-00000.parquet")
    (tmp_path / "_manifests/00000001.json").write_text('{"number": ')
    with pytest.raises(OutputError, match=r"00000001.json is damaged \(.*\); remove it, or use another --output"):
        run(tmp_path)


_KILLED = """
import os, sys
from beam_pipeline.output_folder import open_output
with open_output(sys.argv[1], "c1") as output:
    (output.staging / "half").write_text("x")
    (output.path / "episodes").mkdir()
    print("held", flush=True)
    if sys.argv[2] == "die":
        os.kill(os.getpid(), 9)
    sys.stdin.read()
"""


def start(folder: Path, how: str) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(folder), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )


def test_a_killed_run_is_cleaned_up_and_run_again(tmp_path: Path) -> None:
    process = start(tmp_path, "die")
    process.communicate()
    assert process.returncode == -9
    assert (tmp_path / "_staging/half").exists()
    with pytest.raises(OutputError, match="configuration c1, this one is c2"):
        run(tmp_path, config="c2")
    with open_output(tmp_path, "c1") as output:
        assert sorted(p.name for p in output.staging.iterdir()) == ["run.json"]
        publish(output, staged(output.staging, "ledger/source=a/part-00000.parquet"), "1.0", SUMMARY)
    assert not (tmp_path / "_lock").exists()


def test_two_runs_at_once_are_refused_by_process(tmp_path: Path) -> None:
    process = start(tmp_path, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    message = f"another run \\(process {process.pid}\\) writes in .* now; wait for it, or use another --output"
    with pytest.raises(OutputError, match=message):
        run(tmp_path)
    assert (tmp_path / "_staging/half").exists(), "the other's staging area is untouched"
    process.communicate("")
    run(tmp_path, "ledger/source=a/part-00000.parquet")


def test_a_commit_by_another_run_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with open_output(tmp_path, "c1") as output:
        (tmp_path / "_manifests").mkdir()
        (tmp_path / "_manifests/00000001.json").write_text("theirs")
        with pytest.raises(OutputError, match=r"00000001.json exists: another run committed to this folder meanwhile"):
            publish(output, staged(output.staging, "ledger/x.parquet"), "1.0", SUMMARY)
    assert (tmp_path / "_manifests/00000001.json").read_text() == "theirs"
    assert not (tmp_path / "ledger").exists()


COUNTS = [
    OutcomeCount("a", "kept", "", "", False, 6),
    OutcomeCount("a", "rejected", "quality", "quality.idle", False, 2),
    OutcomeCount("a", "duplicate", "deduplication", "exact", False, 1),
    OutcomeCount("a", "quarantined", "load", "truncated", False, 1),
    OutcomeCount("a", "quarantined", "plan", "declared_absent", False, 90),
    OutcomeCount("b", "cut", "episode_boundary", "cut", False, 1),
    OutcomeCount("b", "kept", "", "", True, 3),
]


def test_outcomes_per_source_add_up() -> None:
    a, b, c = summarise(COUNTS, ["c", "b", "a"])
    assert (a.planned, a.kept, a.rejected, a.duplicate, a.quarantined, a.present) == (100, 6, 2, 1, 91, 10)
    assert a.reasons == (("declared_absent", 90), ("quality.idle", 2), ("exact", 1), ("truncated", 1))
    assert (b.planned, b.kept, b.cut, b.present) == (1, 3, 1, 3)
    assert c == SourceOutcomes("c")


def test_gates_divide_by_what_is_present() -> None:
    outcomes = summarise(COUNTS, ["a", "b", "c"])
    assert check_gates(GateParams(0.2, 0.1, 0), outcomes) == []
    rejected, quarantined = check_gates(GateParams(0.19, 0.09), outcomes)
    assert (rejected.source, rejected.gate, rejected.value, rejected.limit) == ("a", "max_rejected_fraction", 0.2, 0.19)
    assert (quarantined.gate, quarantined.value) == ("max_quarantined_fraction", 0.1)
    assert str(rejected) == (
        "source 'a': max_rejected_fraction is 0.2, more than 0.19; "
        "see the reasons above, or change gates.max_rejected_fraction"
    )


def test_a_source_without_a_row_fails_min_kept_and_may_have_its_own_gate() -> None:
    outcomes = summarise(COUNTS, ["a", "b", "c"])
    (failure,) = check_gates(GateParams(min_kept=1), outcomes)
    assert str(failure).startswith("source 'c': min_kept is 0, less than 1; see")
    assert check_gates(GateParams(min_kept=1, sources={"c": Gate()}), outcomes) == []


@pytest.mark.parametrize(("values", "message"), [((1.5,), "max_rejected_fraction is 1.5"), ((None, None, -1), "-1")])
def test_impossible_gates_are_refused(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GateParams(*values)


def test_sizes_are_summed_per_table_and_source() -> None:
    files = [PartReport(f"episodes/source=a/part-{i}.parquet", 2, 10, "h", "a") for i in range(3)]
    files.append(PartReport("videos/ab.mp4", 0, 99, "ab"))
    assert table_sizes(files) == [TableSize("episodes", "a", 3, 6, 30), TableSize("videos", "", 1, 0, 99)]
