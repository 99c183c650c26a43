"""Beam's resource hints as requests to Ray: one pool of workers per distinct set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CPU_COUNT = "beam:resources:cpu_count:v1"
MIN_RAM = "beam:resources:min_ram_bytes:v1"
ACCELERATOR = "beam:resources:accelerator:v1"
MAX_ACTIVE_BUNDLES = "beam:resources:max_active_bundles_per_worker:v1"
GPUS_SUFFIX = ":gpus:v1"


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What one worker of a pool needs: CPUs (its bundles may use that many threads), GPUs (fractions share one), RAM.

    `max_active_bundles`: how many bundles one worker runs at a time, in threads.
    """

    cpus: int = 1
    gpus: float = 0.0
    min_ram_bytes: int = 0
    accelerator: str = ""
    max_active_bundles: int = 1

    @property
    def name(self) -> str:
        parts = [f"{self.cpus}cpu"]
        if self.gpus:
            parts.append(f"{self.gpus:g}gpu")
        if self.min_ram_bytes:
            parts.append(f"{self.min_ram_bytes / 2**30:.3g}GiB")
        if self.accelerator:
            parts.append(self.accelerator)
        if self.max_active_bundles > 1:
            parts.append(f"{self.max_active_bundles}bundles")
        return "-".join(parts)


def request_of(hints: Mapping[str, bytes]) -> ResourceRequest:
    """The request of an environment's hints (urn to bytes); a hint unknown here changes nothing, as Beam defines hints.

    `beam:resources:accelerator:v1` ("type:T4;count:2") asks for that many GPUs of the type; a hint whose urn ends in
    `:gpus:v1` for a number of GPUs, fractions allowed. Raises ValueError for a value that is no such number.
    """
    cpus, gpus, ram, accelerator, active = 1, 0.0, 0, "", 1
    for urn, value in hints.items():
        if urn == CPU_COUNT:
            cpus = int(_number(urn, value, 1))
        elif urn == MIN_RAM:
            ram = int(_number(urn, value, 0))
        elif urn == MAX_ACTIVE_BUNDLES:
            active = int(_number(urn, value, 1))
        elif urn.endswith(GPUS_SUFFIX):
            gpus = _number(urn, value, 0)
        elif urn == ACCELERATOR:
            fields = dict(part.split(":", 1) for part in value.decode().split(";") if ":" in part)
            gpus = max(gpus, float(fields.get("count", "1")))
            accelerator = fields.get("type", "")
    return ResourceRequest(cpus, gpus, ram, accelerator, active)


def _number(urn: str, value: bytes, minimum: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not minimum <= number < float("inf"):
        raise ValueError(f"resource hint {urn} is {value.decode(errors='replace')!r}; it takes a number >= {minimum:g}")
    return number
