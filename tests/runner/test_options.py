from __future__ import annotations

import os
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner.options import RayOptions, RunnerConfig, cpu_count, file_system


def config(*flags: str) -> RunnerConfig:
    return RunnerConfig.from_options(PipelineOptions(list(flags)))


def test_megabytes_become_bytes(tmp_path: Path) -> None:
    found = config(
        "--ray_bundle_mb=0.5", "--ray_edge_mb=3", "--ray_object_store_mb=100", f"--ray_spill_dir={tmp_path / 'new'}"
    )
    assert (found.bundle_bytes, found.edge_bytes, found.object_store_bytes) == (500_000, 3_000_000, 100_000_000)
    assert found.spill_dir == tmp_path / "new"


def test_most_workers_follow_the_cluster_unless_given() -> None:
    assert config().workers_max == cpu_count()
    assert config().resolved(64).workers_max == 64
    assert config("--ray_workers_max=3").resolved(64).workers_max == 3
    assert config(f"--ray_workers_min={cpu_count() + 2}").resolved(1).workers_max == cpu_count() + 2


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--ray_workers_max=0", "--ray_workers_max=0 must be at least 1"),
        ("--ray_workers_min=-1", "--ray_workers_min=-1 must be at least 0"),
        ("--ray_max_user_failures=0", "--ray_max_user_failures=0 must be at least 1; 1 fails at the first exception"),
        ("--ray_max_system_failures=-1", "--ray_max_system_failures=-1 must be at least 0"),
        ("--ray_shuffle_partitions=0", "--ray_shuffle_partitions=0 must be at least 1"),
        ("--ray_worker_idle_seconds=-1", "--ray_worker_idle_seconds=-1.0 must be at least 0"),
        ("--ray_worker_idle_seconds=nan", "--ray_worker_idle_seconds=nan must be at least 0"),
        ("--ray_bundle_seconds=0", "--ray_bundle_seconds=0.0 must be finite and above 0"),
        ("--ray_bundle_mb=inf", "--ray_bundle_mb=inf must be finite and above 0"),
        ("--ray_edge_mb=-2", "--ray_edge_mb=-2.0 must be finite and above 0"),
        ("--ray_object_store_mb=79", "--ray_object_store_mb=79.0 must be at least 80"),
        ("--ray_address=somewhere", "--ray_address='somewhere' is no address of a cluster; give auto, HOST:PORT"),
        ("--ray_address=ray://host", "--ray_address='ray://host' is no address"),
    ],
)
def test_a_value_beyond_its_limit_is_refused(flag: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}") as caught:
        config(flag)
    assert "; " in str(caught.value)


def test_more_workers_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--ray_workers_min=3 exceeds --ray_workers_max=2; lower the minimum"):
        config("--ray_workers_min=3", "--ray_workers_max=2")


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "ray://head:10001", "[::1]:6379"])
def test_addresses_of_clusters_are_taken(address: str) -> None:
    assert config(f"--ray_address={address}").address == address


@pytest.mark.parametrize("flag", ["--ray_object_store_mb=200", "--ray_spill_dir=/var/tmp"])
def test_what_a_joined_cluster_has_already_cannot_be_set(flag: str) -> None:
    with pytest.raises(ValueError, match=f"{flag.split('=')[0]}.* cannot be set on a cluster that is joined"):
        config("--ray_address=auto", flag)


@pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="this system has no /dev/shm in memory")
def test_spilling_into_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--ray_spill_dir=/dev/shm/spill lies in memory \(tmpfs\).*a real disk"):
        config("--ray_spill_dir=/dev/shm/spill")


@pytest.mark.skipif(file_system(Path("/dev/shm")) != "tmpfs", reason="this system has no /dev/shm in memory")
def test_temporary_files_in_memory_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/dev/shm")
    assert config().spill_dir == Path("/var/tmp")


@pytest.mark.skipif(not os.path.ismount("/proc"), reason="this system has no /proc")
def test_the_innermost_mount_names_the_file_system() -> None:
    assert file_system(Path("/proc/self/no/such/file")) == "proc"
    assert file_system(Path("/")) not in (None, "proc")


def test_every_option_is_explained() -> None:
    import argparse

    parser = argparse.ArgumentParser()
    RayOptions._add_argparse_args(parser)
    text = parser.format_help()
    for action in parser._actions:
        assert action.help, f"{action.dest} is not explained"
        unit = {"mb": "MB", "seconds": "in seconds"}.get(action.dest.rpartition("_")[2], "")
        assert unit in action.help, f"{action.dest}: {action.help!r} lacks its unit"
    assert "30 %" in text
