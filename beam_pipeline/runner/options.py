"""The runner's options on the command line, and what they mean once they are checked."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StreamingOptions

from beam_pipeline.runner.progress import SHOWS, Show

_MB = 1_000_000
# Ray refuses to start a smaller store
_OBJECT_STORE_MIN_MB = 80
_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
_MOUNTS = Path("/proc/self/mounts")
_DISK_BACKED_TEMP = Path("/var/tmp")


class RayOptions(PipelineOptions):
    """Options of RayRunner. A megabyte (MB) is 10^6 bytes."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--ray_address",
            help="cluster to join: auto, HOST:PORT or ray://HOST:PORT (default: start Ray on this machine)",
        )
        parser.add_argument(
            "--ray_workers_min", type=int, default=1, help="workers kept warm for the stages without resource hints"
        )
        parser.add_argument(
            "--ray_workers_max", type=int, help="most workers of one pool (default: the CPUs of the cluster)"
        )
        parser.add_argument(
            "--ray_object_store_mb",
            type=float,
            help=f"shared memory of Ray's object store in MB, at least {_OBJECT_STORE_MIN_MB}, where Ray is started "
            "on this machine (default: Ray's own, 30 %% of the memory)",
        )
        parser.add_argument(
            "--ray_spill_dir",
            help="folder on a real disk to which the object store spills, where Ray is started on this machine "
            "(default: the folder for temporary files)",
        )
        parser.add_argument(
            "--ray_bundle_mb", type=float, default=16, help="encoded input after which a bundle is full, in MB"
        )
        parser.add_argument(
            "--ray_bundle_seconds", type=float, default=5, help="time after which a bundle is cut short, in seconds"
        )
        parser.add_argument(
            "--ray_edge_mb",
            type=float,
            default=64,
            help="encoded data in flight between two stages, in MB; a stage beyond it waits for its consumers",
        )
        parser.add_argument(
            "--ray_max_user_failures",
            type=int,
            default=2,
            help="attempts at a bundle whose user code raises, before the job fails; 1 fails at once",
        )
        parser.add_argument(
            "--ray_max_system_failures",
            type=int,
            default=4,
            help="losses (of a worker, node or object) that a bundle survives; one more fails the job",
        )
        parser.add_argument(
            "--ray_shuffle_partitions", type=int, default=32, help="partitions by which keys are grouped, per shuffle"
        )
        parser.add_argument(
            "--ray_worker_idle_seconds",
            type=float,
            default=60,
            help="time without work after which a worker beyond the minimum ends, in seconds",
        )
        parser.add_argument(
            "--ray_progress",
            choices=SHOWS,
            default="auto",
            help="how progress is shown: auto draws a table on a terminal and logs elsewhere, log always logs (INFO: a "
            "line per finished stage, a summary every 10 s), off leaves it to the program that runs the pipeline",
        )


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """Checked options of one run.

    `workers_max` is the CPU count of this machine until a session resolves it, unless `workers_max_given`.
    `object_store_bytes` None leaves the size to Ray; `spill_dir` is for a cluster that is started here.
    `keeps_reshuffles`: as Beam expands them, since those of older versions drop panes and times.
    `max_user_failures` counts attempts (the last failure fails the job); `max_system_failures` counts survived losses.
    """

    address: str | None
    workers_min: int
    workers_max: int
    workers_max_given: bool
    object_store_bytes: int | None
    spill_dir: Path
    bundle_bytes: int
    bundle_seconds: float
    edge_bytes: int
    max_user_failures: int
    max_system_failures: int
    shuffle_partitions: int
    worker_idle_seconds: float
    progress: Show
    keeps_reshuffles: bool

    @classmethod
    def from_options(cls, options: PipelineOptions) -> RunnerConfig:
        """Check the options; raises ValueError that names the option, its value, the limit and a remedy."""
        own = options.view_as(RayOptions)
        given = own.ray_workers_max is not None
        _at_least("ray_workers_max", own.ray_workers_max if given else 1, 1, "give it one worker or more")
        # a minimum beyond the CPUs is a wish for that many workers, and no contradiction
        most = own.ray_workers_max if given else max(cpu_count(), own.ray_workers_min)
        _at_least("ray_workers_min", own.ray_workers_min, 0, "0 keeps no worker warm")
        if own.ray_workers_min > most:
            raise ValueError(
                f"--ray_workers_min={own.ray_workers_min} exceeds --ray_workers_max={most}; "
                "lower the minimum or raise the maximum"
            )
        _at_least("ray_max_user_failures", own.ray_max_user_failures, 1, "1 fails at the first exception")
        _at_least("ray_max_system_failures", own.ray_max_system_failures, 0, "0 fails at the first loss")
        _at_least("ray_shuffle_partitions", own.ray_shuffle_partitions, 1, "1 groups all keys in one place")
        _at_least("ray_worker_idle_seconds", own.ray_worker_idle_seconds, 0, "0 ends idle workers at once")
        _above_zero("ray_bundle_seconds", own.ray_bundle_seconds)
        store = own.ray_object_store_mb
        if store is not None:
            _at_least("ray_object_store_mb", store, _OBJECT_STORE_MIN_MB, "Ray starts no smaller object store")
        return cls(
            address=_checked_address(own),
            workers_min=own.ray_workers_min,
            workers_max=most,
            workers_max_given=given,
            object_store_bytes=None if store is None else int(store * _MB),
            spill_dir=_spill_dir(own.ray_spill_dir),
            bundle_bytes=_megabytes("ray_bundle_mb", own.ray_bundle_mb),
            bundle_seconds=own.ray_bundle_seconds,
            edge_bytes=_megabytes("ray_edge_mb", own.ray_edge_mb),
            max_user_failures=own.ray_max_user_failures,
            max_system_failures=own.ray_max_system_failures,
            shuffle_partitions=own.ray_shuffle_partitions,
            worker_idle_seconds=own.ray_worker_idle_seconds,
            progress=own.ray_progress,
            keeps_reshuffles=options.view_as(StreamingOptions).update_compatibility_version is not None,
        )

    def resolved(self, cluster_cpus: int) -> RunnerConfig:
        """The same with the cluster's CPUs as the most workers, unless the user gave a number."""
        if self.workers_max_given:
            return self
        return dataclasses.replace(self, workers_max=max(1, cluster_cpus, self.workers_min))


def cpu_count() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_system(path: Path) -> str | None:
    """Type of the file system that holds a path, which need not exist; None where the system does not tell."""
    if not _MOUNTS.exists():
        return None
    place = path.resolve()
    found: tuple[int, str] | None = None
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, mount, kind, *_ = line.split(" ")
        point = Path(mount.encode().decode("unicode_escape"))
        # a later mount on the same point hides an earlier one
        if place.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), kind)
    return found[1] if found else None


def _checked_address(own: Any) -> str | None:
    address: str | None = own.ray_address
    if address is None:
        return None
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address != "auto" and not (host and port.isdigit()):
        raise ValueError(
            f"--ray_address={address!r} is no address of a cluster; give auto, HOST:PORT or ray://HOST:PORT, "
            "or leave it out to start Ray on this machine"
        )
    for name, value in (("ray_object_store_mb", own.ray_object_store_mb), ("ray_spill_dir", own.ray_spill_dir)):
        if value is not None:
            raise ValueError(
                f"--{name}={value} cannot be set on a cluster that is joined (--ray_address={address}); "
                "leave one of the two out"
            )
    return address


def _spill_dir(given: str | None) -> Path:
    candidates = [Path(given)] if given else [Path(tempfile.gettempdir()), _DISK_BACKED_TEMP]
    kinds = [file_system(path) for path in candidates]
    for path, kind in zip(candidates, kinds, strict=True):
        if kind not in _MEMORY_FILE_SYSTEMS and (given or path.is_dir()):
            return path.absolute()
    raise ValueError(
        f"--ray_spill_dir={candidates[0]} lies in memory ({kinds[0]}), where spilling frees nothing; "
        "name a folder on a real disk"
    )


def _megabytes(name: str, value: float) -> int:
    _above_zero(name, value)
    return max(1, int(value * _MB))


def _above_zero(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"--{name}={value} must be finite and above 0; leave it out for the default")


def _at_least(name: str, value: float, limit: float, meaning: str) -> None:
    if not (math.isfinite(value) and value >= limit):
        raise ValueError(f"--{name}={value} must be at least {limit:g}; {meaning}")
