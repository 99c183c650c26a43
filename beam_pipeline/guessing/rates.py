"""One clock for bags: the rate that training needs, by the streams that a policy sees and those that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from beam_pipeline.inspection.report import Notices
from beam_pipeline.inspection.video_headers import read_headers
from transforms.schema import ACTION, STATE
from transforms.sources.ros_streams import BagStart

KEY = "temporal_alignment.rate_hz"


@dataclass(frozen=True)
class Rate:
    """The rate of a bag's slowest stream, from 1 Hz on a whole number; `stream` says which that is, and of what bag."""

    hz: float
    stream: str


@dataclass(frozen=True)
class RateGuess:
    """The rate for all sources, None where they have none in common, and in words why."""

    rate_hz: float | None
    why: str


def bag_rate(bag: Path, start: BagStart, videos: Mapping[str, Path]) -> Rate | None:
    """The slowest of state, action and cameras, so that no step shows another one's frame again; None if none is known.

    `videos` lie beside the bag, by the names that `start.topics` gives them.
    """
    rates: dict[str, float] = {}
    for column in (STATE, ACTION):
        parts = [start.rates_hz.get(part.topic, 0.0) for part in start.topics.columns.get(column, ())]
        rates[column] = min(filter(None, parts), default=0.0)
    files = {camera: str(videos[place]) for camera, place in start.topics.cameras.items() if place in videos}
    headers = read_headers(Path("/"), list(files.values()), Notices())
    for camera, place in start.topics.cameras.items():
        header = headers.get(files.get(camera, ""))
        rates[f"camera {camera}"] = header.rate_hz if header else start.rates_hz.get(place, 0.0)
    known = {stream: _nominal(hz) for stream, hz in rates.items() if hz}
    if not known:
        return None
    slowest = min(known, key=lambda stream: (known[stream], stream))
    return Rate(known[slowest], f"{slowest} in {bag.name}")


def _nominal(hz: float) -> float:
    """The whole number that a clock with jitter and drift was set to."""
    return float(round(hz)) if hz >= 1 else float(f"{hz:.3g}")


def guess_rate(rates: Mapping[str, Rate | None]) -> RateGuess | None:
    """One rate for all sources, each with that of its bag, or None where it is none; None where there is no bag."""
    bags = {name: rate for name, rate in rates.items() if rate is not None}
    if not bags:
        return None
    others = [name for name in rates if name not in bags]
    if others:
        return RateGuess(
            None, f"{KEY}: it is for all sources, and {others[0]!r} keeps its own steps; curate bags apart"
        )
    found = sorted({rate.hz for rate in bags.values()})
    if len(found) > 1:
        slow, fast = (next(name for name, rate in bags.items() if rate.hz == hz) for hz in (found[0], found[-1]))
        each = f"{slow!r} has {found[0]:g} Hz and {fast!r} {found[-1]:g} Hz"
        return RateGuess(None, f"{KEY}: it is for all sources, and {each}; curate them apart")
    slowest = next(iter(bags.values()))
    return RateGuess(
        slowest.hz,
        f"{KEY}: {slowest.hz:g}, that of {slowest.stream}, the slowest of state, action and cameras; "
        "each topic has a clock of its own, and training needs one",
    )
