"""The command line: exit statuses, messages, what a scheduler adds, and the same job from Python."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_pipeline.__main__ import main
from beam_pipeline.config import PipelineConfig
from beam_pipeline.pipeline import GatesFailed, MultimodalPipeline
from beam_pipeline.runner import resolve_runner
from tests.factories import motion, write_isaac, write_video
from tests.job import read_ledger, run_job, write_config

ISAAC = "  - {name: i, path: 'isaac/*.hdf5', format: isaac_hdf5, embodiment: panda}"
VIDEO = "  - {name: v, path: video, embodiment: panda}"
FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    """Two demonstrations, the second with NaN: one is kept, one rejected."""
    poisoned = motion(1)
    poisoned[7, 2] = np.nan
    write_isaac(tmp_path / "isaac/a.hdf5", {0: motion(0), 1: poisoned})
    return tmp_path


@pytest.fixture()
def misfit(tmp_path: Path) -> Path:
    """Three videos, of which the second's sensors hold a number that no column of the output can hold."""
    for index in range(3):
        write_video(tmp_path / f"video/v{index}.mp4", 30, seed=index)
        times = np.arange(30) / 20
        count = pa.array([2**63 + 5 if index == 1 else k for k in range(30)], pa.uint64())
        table = pa.table({"timestamp": times, "x": np.sin(times + index), "count": count})
        pq.write_table(table, tmp_path / f"video/v{index}.parquet")
    return tmp_path


@pytest.fixture()
def quiet() -> Iterator[None]:
    """Beam logs the traceback of what a test provokes."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = run_job(folder, ISAAC)
    shown = capsys.readouterr()
    assert job.status == 0 and job.outcomes() == {"i/a/000000": "kept", "i/a/000001": "rejected"}
    lines = shown.out.splitlines()
    assert lines[0] == (
        "i: planned 2, kept 1, rejected 1, duplicate 0, quarantined 0, cut 0; not kept for: integrity.nan 1"
    )
    assert lines[1:3] == [
        "not kept, by reason and source, with the first of each:",
        "  integrity.nan 1: i/a/000001, 1 count, limit 0; action: 1",
    ]
    assert f"ledger: {job.output / 'ledger'}" in lines
    assert "\x1b" not in shown.out and "╭" not in shown.out, "no terminal, and yet more than plain lines"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "usage: python -m beam_pipeline [COMMAND]"),
        (["curat"], "there is no command 'curat'; did you mean 'curate'?"),
        (["curate"], "--config is missing"),
        (["--output", "x"], "--config is missing"),
        (["--confg", "{config}"], "unknown flag --confg; did you mean --config?"),
        (["--config", "{config}", "--ouput", "x"], "unknown flag --ouput; did you mean --output?"),
        (["--config", "{config}", "--configs=x"], "unknown flag --configs; did you mean --config?"),
        (["--config", "{config}", "--runner", "DirectRuner"], "no runner 'DirectRuner'"),
        (["--config", "{config}", "--runner", "no.such.Runner"], "no runner 'no.such.Runner'"),
        (["--config", "{config}", "--runner", "pathlib.Path"], "which is no apache_beam PipelineRunner"),
        (["--config", "{config}", "--direct_num_workers=many"], "a flag is malformed; see above"),
        (["decide", "--config", "{config}", "--read_with", "ray_data"], "decide has no --read_with: it decides about"),
        (["--config", "{folder}/absent.yaml"], "absent.yaml:1: cannot read the configuration"),
        (["--config", "{folder}/bad.yaml"], "bad.yaml:2: not YAML"),
        (["--config", "{folder}/typo.yaml"], "typo.yaml:2: unknown key 'qualty'; did you mean 'quality'?"),
        (
            ["--config", "{folder}/type.yaml"],
            "type.yaml:2: need a number, found 'fast' at `temporal_alignment.rate_hz`",
        ),
    ],
)
def test_bad_usage(folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    config = write_config(folder, ISAAC)
    (folder / "bad.yaml").write_text("sources: [\n: :")
    (folder / "typo.yaml").write_text("sources: []\nqualty: {}\n")
    (folder / "type.yaml").write_text("sources: []\ntemporal_alignment: {rate_hz: fast}\n")
    before = sorted(folder.rglob("*"))
    status = main([word.format(config=config, folder=folder) for word in argv])
    shown = capsys.readouterr()
    assert status == 2 and message in shown.out + shown.err, shown
    assert sorted(folder.rglob("*")) == before, "work began"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "select: {rules: {quality.idle: {max: 0.8}}}",
            ":7: select.rules: no check is named 'quality.idle'; did you mean 'quality.idle_fraction'?",
        ),
        (
            "select: {rules: {blur: {max: 0.8}}}",
            ":7: select.rules: no check is named 'blur'; docs/findings.md lists them all",
        ),
        (
            "gates: {sources: {j: {min_kept: 1}}}",
            ":7: gates.sources: no source is named 'j'; known: i",
        ),
        (
            "select: {quality_check: quality.ldjl}",
            ":7: select.quality_check: no check is named 'quality.ldjl'; did you mean 'quality.ldlj'?",
        ),
        (
            "select: {reject_instruction_status: [mismach]}",
            ":7: 'mismach' is not allowed; did you mean 'mismatch'? at `select.reject_instruction_status[0]`",
        ),
        (
            "episode_boundary: {velocity_limits: [2, 2]}",
            ":7: episode_boundary.velocity_limits are 2; they serve embodiments of as many joints without a urdf, "
            "of which there is none: give one limit a joint, or leave them out",
        ),
    ],
)
def test_names_that_nothing_has(folder: Path, capsys: pytest.CaptureFixture[str], more: str, message: str) -> None:
    assert run_job(folder, ISAAC, "\n" + more).status == 2
    assert message in capsys.readouterr().err


def test_joint_names_and_elements_must_match(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = "{names: [a, b], position: {column: observation.state, start: 0, end: 7}}"
    assert run_job(folder, ISAAC, embodiments=f"\n  panda: {{joints: {joints}}}").status == 2
    expected = "position observation.state[0:7] holds 7 elements for 2 joint names; match them"
    assert expected in capsys.readouterr().err


def test_a_declared_column_that_is_absent_rejects_and_names_what_is_there(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    embodiments = "\n  panda: {rate_hz: 20, joints: {names: [a], position: {column: joint}, unit: rad}}"
    job = run_job(folder, ISAAC, embodiments=embodiments)
    assert set(job.outcomes().values()) == {"rejected"}
    shown = capsys.readouterr().out
    assert (
        "conventions.column_absent 2: i/a/000000, 1 columns, limit 0; joints.position: no column joint; available:"
        in shown
    )
    assert "nothing was kept" in shown and "episodes:" not in shown and "ledger:" in shown


def test_output_that_cannot_be_made(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").write_text("x")
    config = write_config(folder, ISAAC)
    assert main(["--config", str(config), "--output", str(folder / "file/out")]) == 2
    assert "file/out cannot be used: Not a directory; use another --output" in capsys.readouterr().err


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0 and "exit status: 0 done, 1 the run failed" in capsys.readouterr().out


def test_gate_that_fails_publishes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = run_job(folder, ISAAC, "\ngates: {max_rejected_fraction: 0}")
    shown = capsys.readouterr()
    assert job.status == 3
    assert "nothing was published: source 'i': max_rejected_fraction is 0.5, more than 0;" in shown.err
    assert "integrity.nan 1" in shown.out, "the reasons are not shown"
    assert "the evidence is stored: `decide` takes other rules and gates without measuring again" in shown.err
    published = {p.name for p in job.output.iterdir()} - {"_staging", "_lock", "_evidence"}
    assert not published, published


def test_gate_of_one_source(folder: Path) -> None:
    gates = "\ngates: {max_rejected_fraction: 0, sources: {i: {max_rejected_fraction: 0.5, min_kept: 1}}}"
    assert run_job(folder, ISAAC, gates).status == 0


def test_run_again_after_a_failed_gate(folder: Path) -> None:
    assert run_job(folder, ISAAC, "\ngates: {max_rejected_fraction: 0}").status == 3
    assert run_job(folder, ISAAC).status == 0


def test_flags_of_a_scheduler_do_no_harm_and_unknown_ones_are_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = (
        "--labels=airflow-version=v2-10-0",
        "--labels=team=robots",
        "--job_name=nightly",
        "--no_such_beam_option=1",
    )
    assert run_job(folder, ISAAC, "", *flags).status == 0
    assert "Discarding unparseable args: ['--no_such_beam_option=1']" in caplog.text


def test_runner_by_its_full_name(folder: Path) -> None:
    assert run_job(folder, ISAAC, "", "--runner", FN_API_RUNNER).status == 0


@pytest.mark.parametrize("name", ["DirectRunner", "direct", FN_API_RUNNER])
def test_direct_runner_runs_in_process(name: str) -> None:
    runner = resolve_runner(name)
    assert f"{type(runner).__module__}.{type(runner).__name__}".startswith(
        "apache_beam.runners.portability.fn_api_runner"
    )


def test_no_connection_leaves_this_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[object] = []

    def refuse(name: str) -> object:
        def refused(*arguments: object, **named: object) -> object:
            attempts.append((name, arguments))
            raise OSError("no network in this test")

        return refused

    monkeypatch.setattr(socket, "create_connection", refuse("create_connection"))
    monkeypatch.setattr("urllib.request.urlopen", refuse("urlopen"))
    monkeypatch.setattr("socket.getaddrinfo", refuse("getaddrinfo"))
    assert run_job(folder, ISAAC).status == 0
    assert not attempts


def test_from_python(folder: Path) -> None:
    config = write_config(folder, ISAAC, f"\noutput: {folder / 'python'}")
    result = MultimodalPipeline(PipelineConfig.load(config)).run()
    assert result.output == folder / "python" and result.manifest.is_file()
    (outcome,) = result.outcomes
    assert (outcome.source, outcome.planned, outcome.kept, outcome.rejected) == ("i", 2, 1, 1)
    assert outcome.reasons == (("integrity.nan", 1),)
    assert result.counters["demosift:load.in"] == 2 and result.counters["demosift:select.kept"] == 1
    assert result.files and all(path.is_file() for path in result.files)
    assert set(read_ledger(result.output)) == {"i/a/000000", "i/a/000001"}


def test_gates_raise_from_python(folder: Path) -> None:
    config = write_config(folder, ISAAC, "\ngates: {min_kept: 2}")
    with pytest.raises(GatesFailed, match=r"source 'i': min_kept is 1, less than 2") as caught:
        MultimodalPipeline(PipelineConfig.load(config)).run(folder / "gated")
    assert (caught.value.failures[0].value, caught.value.failures[0].limit) == (1, 2)


def test_stage_that_fails_on_one_episode_leaves_its_neighbours(misfit: Path) -> None:
    job = run_job(misfit, VIDEO)
    assert job.status == 0 and job.outcomes() == {"v/v0": "kept", "v/v1": "quarantined", "v/v2": "kept"}
    row = job.ledger["v/v1"]
    assert (row["stage"], row["rule"]) == ("stage", "stage_failed")
    assert row["detail"].startswith("ArrowInvalid: ") and str(2**63 + 5) in row["detail"]


def test_fail_fast_fails_the_run(misfit: Path, quiet: None) -> None:
    with pytest.raises(pa.ArrowInvalid, match=str(2**63 + 5)):
        run_job(misfit, VIDEO, "", "--fail_fast")
    assert not (misfit / "out/_manifest.json").exists()


def test_guardrail_fails_the_run(tmp_path: Path, quiet: None) -> None:
    write_isaac(tmp_path / "isaac/a.hdf5", {i: motion(0) for i in range(3)})
    with pytest.raises(RuntimeError, match=r"has 3 members, above select.max_component 2"):
        run_job(tmp_path, ISAAC, "\nselect: {max_component: 2}")
    assert not (tmp_path / "out/_manifest.json").exists()


@pytest.mark.parametrize("compression", ["zstd", "lz4", "snappy", "none"])
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_every_form_of_output_is_read_back(folder: Path, form: str, compression: str) -> None:
    more = f"\nsink: {{format: {form}, compression: {compression}}}"
    if (form, compression) == ("arrow", "snappy"):
        assert run_job(folder, ISAAC, more).status == 2, "Arrow files know lz4 and zstd alone"
        return
    config = write_config(folder, ISAAC, more)
    assert main(["--config", str(config), "--output", str(folder / "out")]) == 0
    for table, rows in (("transitions", 39), ("episodes", 1), ("ledger", 2)):
        files = sorted((folder / "out" / table / "source=i").iterdir())
        assert files and {f.suffix for f in files} == {f".{form}"}
        read = [pa.ipc.open_file(f).read_all() if form == "arrow" else pq.ParquetFile(f).read() for f in files]
        assert sum(t.num_rows for t in read) == rows, table
        if form == "parquet":
            codecs = {pq.ParquetFile(f).metadata.row_group(0).column(0).compression for f in files}
            assert codecs == {"UNCOMPRESSED" if compression == "none" else compression.upper()}


def test_an_output_among_a_sources_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "data/a.mp4", 3)
    config = write_config(tmp_path, "  - {name: v, path: data}")
    assert main(["--config", str(config), "--output", str(tmp_path / "data/curated")]) == 2
    assert "which source 'v' reads; use an --output outside of it" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["a.mp4"]


def test_a_name_that_makes_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "data/a.mp4", 3)
    config = write_config(tmp_path, f"  - {{name: {'機' * 28}, path: data}}")
    assert main(["--config", str(config)]) == 2
    assert "makes a folder's name of 259 bytes; need at most 255" in capsys.readouterr().err
