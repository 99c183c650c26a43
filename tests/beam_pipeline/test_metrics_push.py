"""What a run tells a real Pushgateway, against the published ledger and summary as other code reads them."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from beam_pipeline.__main__ import main
from beam_pipeline.gates import GateFailure
from beam_pipeline.metrics import PUSHED
from beam_pipeline.metrics_push import PUSH_VARIABLE, RunReport
from infra.observe.servers import free_port
from tests.factories import rlds_example, write_rlds
from tests.job import read_ledger, write_config
from tests.pushgateway import held, pushgateway, value

SOURCES = "  - {name: r, path: rlds, embodiment: panda}"
IMPOSSIBLE = "\ngates: {min_kept: 100}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pushgateway(tmp_path_factory.mktemp("gateway")) as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good episodes, a copy of one, and a shard that is cut off in its last record."""
    folder = tmp_path_factory.mktemp("job")
    examples = [[rlds_example(seed) for seed in (1, 2, 3)], [rlds_example(1), rlds_example(4)]]
    paths = write_rlds(folder / "rlds", examples)
    paths[1].write_bytes(paths[1].read_bytes()[:-40])
    return folder


def run(command: str, folder: Path, output: str, *flags: str, more: str = "") -> int:
    return main(
        [command, "--config", str(write_config(folder, SOURCES, more)), "--output", str(folder / output), *flags]
    )


def test_a_success_tells_what_the_ledger_holds_and_a_failure_keeps_it(folder: Path, gateway: str) -> None:
    before = time.time()
    assert run("curate", folder, "kitchen", f"--push_gateway={gateway}") == 0
    found = held(gateway)
    own = {"set": "kitchen", "command": "curate"}
    ledger = read_ledger(folder / "kitchen")
    outcomes = Counter(row["outcome"] for row in ledger.values())
    assert outcomes == {"kept": 3, "duplicate": 1, "quarantined": 1}
    for outcome in ("kept", "rejected", "duplicate", "quarantined", "cut"):
        assert value(found, "demosift_episodes", **own, source="r", outcome=outcome) == outcomes[outcome]
    rules = Counter(
        row["rule"] for row in ledger.values() if row["outcome"] in ("rejected", "duplicate", "quarantined")
    )
    told = {dict(labels)["rule"]: number for (name, labels), number in found.items() if name == "demosift_not_kept"}
    assert told == {rule or "duplicate": count for rule, count in rules.items()}
    assert value(found, "demosift_inputs", **own, source="r") == 5
    assert value(found, "demosift_dead_letters", **own, source="r") == 1
    files = list((folder / "kitchen/transitions").rglob("*.parquet"))
    of = {"table": "transitions", "source": "r"}
    assert value(found, "demosift_output_bytes", **own, **of) == sum(file.stat().st_size for file in files)
    assert value(found, "demosift_output_rows", **own, **of) == sum(pq.read_metadata(file).num_rows for file in files)
    stages = json.loads((folder / "kitchen/run_summary.json").read_text())["stages"]
    for stage in stages:
        for end, key in (("in", "taken"), ("out", "put_out"), ("dead", "dead")):
            assert value(found, "demosift_stage_elements", **own, stage=stage["stage"], end=end) == stage[key]
    assert stages and sum(stage["dead"] for stage in stages) == 1
    assert value(found, "demosift_last_run_failed", **own) == 0
    success = value(found, "demosift_last_success_timestamp_seconds", **own)
    assert success is not None and before <= success <= time.time()
    seconds = value(found, "demosift_run_duration_seconds", **own)
    assert seconds is not None and 0 < seconds <= time.time() - before

    assert run("curate", folder, "kitchen", f"--push_gateway={gateway}", more=IMPOSSIBLE) == 3
    found = held(gateway)
    assert value(found, "demosift_last_run_failed", **own) == 1
    assert value(found, "demosift_last_run_exit_status", **own) == 3
    assert value(found, "demosift_gates_failed", **own) == 1
    assert value(found, "demosift_gate_value", **own, source="r", gate="min_kept") == 3
    assert value(found, "demosift_last_success_timestamp_seconds", **own) == success

    assert run("decide", folder, "kitchen", f"--push_gateway={gateway}") == 0
    assert run("curate", folder, "kitchen", f"--push_gateway={gateway}") == 0
    found = held(gateway)
    assert value(found, "demosift_last_run_failed", **own) == 0
    assert value(found, "demosift_gate_value", **own, source="r", gate="min_kept") is None
    assert value(found, "demosift_episodes", set="kitchen", command="decide", source="r", outcome="kept") == 3
    assert {name for name, _ in found if not name.startswith("demosift_measured")} <= {one.name for one in PUSHED}


def test_measuring_tells_what_it_stored(
    folder: Path, gateway: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(PUSH_VARIABLE, gateway)
    assert run("evidence", folder, "measured", "--source=r", "--push_set=garage") == 0
    assert "r: 4 episodes measured, 1 inputs left before" in capsys.readouterr().out
    found = held(gateway)
    own = {"set": "garage", "command": "evidence", "source": "r"}
    assert value(found, "demosift_measured_episodes", **own) == 4
    assert value(found, "demosift_measured_left", **own) == 1
    assert value(found, "demosift_last_run_failed", **own) == 0


def test_a_configuration_that_is_refused_is_a_failed_run(folder: Path, gateway: str) -> None:
    assert run("curate", folder, "spoilt", f"--push_gateway={gateway}", more="\nselekt: {}") == 2
    found = held(gateway)
    own = {"set": "spoilt", "command": "curate"}
    assert value(found, "demosift_last_run_failed", **own) == 1
    assert value(found, "demosift_last_run_exit_status", **own) == 2
    assert value(found, "demosift_last_success_timestamp_seconds", **own) is None


def test_what_is_raised_is_a_failed_run(gateway: str) -> None:
    group = {"set": "raised", "command": "curate"}
    with pytest.raises(RuntimeError, match="out of memory"), RunReport(gateway, group, Console(stderr=True)):
        raise RuntimeError("out of memory")
    assert value(held(gateway), "demosift_last_run_exit_status", **group) == 1


def test_another_failure_than_of_gates_counts_none(gateway: str) -> None:
    group = {"set": "twice", "command": "decide"}
    gate = GateFailure("r", "min_kept", 3, 100)
    assert RunReport(gateway, group, Console()).failed(3, gates=[gate]) == 3
    RunReport(gateway, group, Console()).failed(1)
    assert value(held(gateway), "demosift_gates_failed", **group) == 0


def test_a_push_that_fails_fails_no_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    assert run("curate", folder, "alone", f"--push_gateway={nobody}") == 0
    said = capsys.readouterr().err
    assert f"did not reach the Pushgateway at {nobody}" in said and "Connection refused" in said
    assert "give --push_gateway another HOST:PORT" in said
    assert (folder / "alone/_manifest.json").exists()


@pytest.mark.parametrize("address", ["gateway", "gateway:port", "ftp://gateway:9091", ":9091"])
def test_what_is_no_address_is_refused_before_any_work(
    folder: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("curate", "evidence", "decide"):
        assert run(command, folder, "never", f"--push_gateway={address}") == 2
        assert f"--push_gateway {address} is no address; give HOST:PORT" in capsys.readouterr().err
    assert not (folder / "never").exists()


def test_a_misspelt_flag_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("curate", folder, "never", "--push_gatway=localhost:9091") == 2
    assert "did you mean --push_gateway?" in capsys.readouterr().err
