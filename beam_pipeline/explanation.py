"""Why an episode left as it did, in plain words: the rule, the number, the limit, the place, and its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from beam_pipeline.curated import CuratedSet
from transforms.output_files import EVIDENCE, LEDGER
from transforms.select import DEDUPLICATION
from transforms.verdicts import STAGE as VERDICTS
from transforms.verdicts import unknown_id

Row = Mapping[str, Any]
IN_WORDS: Mapping[str, str] = {
    "conventions.column_absent": "columns that the configuration declares are not in the recording",
    "timestamps.backward": "steps run back in time",
    "timestamps.equal": "steps share a time stamp",
    "timestamps.missing": "steps have no time stamp",
    "integrity.nan": "transitions hold values that are not finite",
    "integrity.column_type": "columns have another type than in the source's other episodes",
    "frames.black": "a camera shows black frames",
    "frames.frozen": "a camera stands still while the robot moves",
    "physics.position_excess": "a joint is beyond its limit",
    "physics.velocity_ratio": "a joint moves faster than its limit",
    "quality.idle_fraction": "the robot stands still for much of the episode",
    "quality.ldlj": "the motion is not smooth",
    "quality.longest_pause_s": "the robot pauses",
    "instruction.status": "the instruction is not as the configuration asks",
    "reset_interval": "this part of the recording holds no demonstration: nothing moves in it, or it is too short",
}
"""What a broken rule says of an episode, for those that are met most."""
_PLAIN = "1"
"""Unit of what has none."""
_NEAREST = 3
_LISTED = 8


class UnknownEpisode(ValueError):
    """An id that the ledger does not have; the message names near ones."""


@dataclass(frozen=True)
class Explanation:
    """Lines for people, and what of the episode to look at: the finding's time (ns) or steps, both ends inclusive.

    `recording_id` is the recording that the episode was cut out of, or is. `cuts_ns` are where a recording was cut.
    """

    row: Row
    lines: tuple[str, ...]
    interval: tuple[int, int] | None = None
    frames: tuple[int, int] | None = None
    cuts_ns: tuple[int, ...] = field(default=())

    @property
    def recording_id(self) -> str:
        return str(self.row["parent_id"] or self.row["episode_id"])


def explain(published: CuratedSet, episode_id: str) -> Explanation:
    """Explain one row of the ledger; raises UnknownEpisode."""
    ledger = published.rows(LEDGER)
    found = ledger.filter(pc.field("episode_id") == episode_id).to_pylist() if ledger.num_rows else []
    if not found:
        raise UnknownEpisode(
            unknown_id(episode_id, set(ledger.column("episode_id").to_pylist() if ledger.num_rows else ()))
        )
    (row,) = found
    findings = published.rows(EVIDENCE, row["source"], where=pc.field("episode_id") == episode_id).to_pylist()
    outcome, stage = row["outcome"], row["stage"]
    decisive = _decisive(row, findings)
    lines = [_headline(row)]
    if row["parent_id"]:
        (parent,) = ledger.filter(pc.field("episode_id") == row["parent_id"]).to_pylist()
        lines.append(f"it is a part of {row['parent_id']}, {_span(row, parent)}")
    if stage == VERDICTS:
        lines.append(f"a person decided: {row['detail']}")
    elif outcome == "rejected":
        lines += _broken(row, decisive)
    elif outcome == "duplicate":
        channel = row["rule"].removeprefix("duplicate.")
        lines.append(f"it repeats {row['duplicate_of']}: {channel} similarity {row['value']:g}")
        if channel != "exact":
            lines.append(f"channel by channel: {row['detail']}")
    elif outcome == "quarantined":
        lines.append(f"it could not be processed at {stage}: {row['rule']}: {row['detail']}")
    elif outcome == "cut":
        lines.append(f"{row['detail']}; its {row['n_children']} parts are decided each for itself")
    lines += _other_failures(row, findings, decisive)
    if outcome == "kept" and stage != VERDICTS:
        lines += _closest(findings)
    if decisive is not None:
        lines += _neighbours(published, row, decisive, ledger)
    lines += _relatives(row, ledger)
    cuts: tuple[int, ...] = ()
    if outcome == "cut":
        children = ledger.filter(pc.field("parent_id") == episode_id).sort_by("start_ns").to_pylist()
        lines += [f"  {c['episode_id']}: {c['outcome']}{_by(c)}, {_span(c, row)}" for c in children]
        cuts = tuple(c["start_ns"] for c in children[1:] if c["start_ns"] is not None)
    return Explanation(row, tuple(lines), *_place(decisive), cuts)


def _headline(row: Row) -> str:
    said = {"kept": "was kept", "rejected": "was rejected", "duplicate": "was dropped as a duplicate"}
    said |= {"quarantined": "was quarantined", "cut": "was cut into episodes"}
    steps = f" ({row['n_steps']} steps)" if row["n_steps"] is not None else ""
    return f"{row['episode_id']} of source {row['source']}{steps} {said[row['outcome']]}"


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.6g} {'' if unit == _PLAIN else unit}".rstrip()


def _span(part: Row, recording: Row) -> str:
    """How long a part of a recording is, and where in it: bags count their time from 1970."""
    if part["start_ns"] is None or part["end_ns"] is None:
        return f"{part['n_steps']} steps"
    start_s = (part["start_ns"] - (recording["start_ns"] or 0)) / 1e9
    return f"{(part['end_ns'] - part['start_ns']) / 1e9:.3f} s from {start_s:.3f} s"


def _by(row: Row) -> str:
    return f" by {row['rule']}" if row["rule"] else ""


def _decisive(row: Row, findings: Sequence[Row]) -> Row | None:
    """The finding that broke the rule that decided, or would have decided; None where no finding did."""
    failed = [f for f in findings if f["passed"] is False]
    named = [f for f in failed if f["check"] == row["rule"] or row["stage"] == VERDICTS]
    same = [f for f in named if f["value"] == row["value"] and f["threshold"] == row["threshold"]]
    return next(iter(same or named), None)


def _broken(row: Row, decisive: Row | None) -> Iterator[str]:
    words = IN_WORDS.get(row["rule"])
    yield f"the rule {row['rule']} is broken" + (f": {words}" if words else "")
    if row["threshold"] is not None:
        side = "above" if (row["value"] or 0) > row["threshold"] else "below"
        limit = _number(row["threshold"], row["unit"])
        yield f"measured {_number(row['value'], row['unit'])}, {side} the limit of {limit}"
    elif row["value"] is not None:
        yield f"measured {_number(row['value'], row['unit'])}"
    if decisive is not None and (place := _where(decisive, row)):
        yield f"found {place}"
    if row["detail"]:
        yield f"in detail: {row['detail']}"


def _where(finding: Row, row: Row) -> str:
    """Where in the episode a finding is, in s after its start and by its steps; empty where it names no place."""
    said = []
    if finding["start_ns"] is not None:
        first_s, last_s = ((finding[end] - (row["start_ns"] or 0)) / 1e9 for end in ("start_ns", "end_ns"))
        said.append(f"from {first_s:.3f} s to {last_s:.3f} s" if last_s > first_s else f"at {first_s:.3f} s")
    if finding["first_frame"] is not None:
        first, last = finding["first_frame"], finding["last_frame"]
        said.append(f"at steps {first} to {last}" if last > first else f"at step {first}")
    return ", ".join(said)


def _place(finding: Row | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    if finding is None:
        return None, None
    interval = None if finding["start_ns"] is None else (finding["start_ns"], finding["end_ns"])
    return interval, None if finding["first_frame"] is None else (finding["first_frame"], finding["last_frame"])


def _other_failures(row: Row, findings: Sequence[Row], decisive: Row | None) -> Iterator[str]:
    others = [f for f in findings if f["passed"] is False and f is not decisive]
    if not others:
        return
    yield "it breaks other rules too:" if decisive is not None else "the rules that it breaks:"
    for found in others[:_LISTED]:
        place = f", {where}" if (where := _where(found, row)) else ""
        yield (
            f"  {found['check']} {_number(found['value'], found['unit'])}, "
            f"limit {_number(found['threshold'], found['unit'])}{place}"
        )
    if len(others) > _LISTED:
        yield f"  and {len(others) - _LISTED} more findings"


def _closest(findings: Sequence[Row]) -> Iterator[str]:
    passed = [f for f in findings if f["passed"]]
    yield f"it passes every rule; {len(passed)} of its {len(findings)} findings have one"
    measured = [f for f in passed if f["value"] is not None and f["threshold"]]
    if measured:
        nearest = min(measured, key=lambda f: abs(f["threshold"] - f["value"]) / abs(f["threshold"]))
        yield (
            f"closest to a limit: {nearest['check']} {_number(nearest['value'], nearest['unit'])}, "
            f"limit {_number(nearest['threshold'], nearest['unit'])}"
        )


def _neighbours(published: CuratedSet, row: Row, decisive: Row, ledger: pa.Table) -> Iterator[str]:
    """The episodes of the source whose worst value of the same check is nearest to this one's."""
    own = published.rows(EVIDENCE, row["source"], where=pc.field("check") == decisive["check"])
    if own.num_rows == 0 or decisive["value"] is None or decisive["threshold"] is None:
        return
    worst: dict[str, float] = {}
    above = decisive["value"] > decisive["threshold"]
    for found in own.select(["episode_id", "value"]).to_pylist():
        name, value = found["episode_id"], found["value"]
        if value is not None:
            worst[name] = (max if above else min)(value, worst.get(name, value))
    mine = worst.pop(row["episode_id"], decisive["value"])
    nearest = sorted(worst, key=lambda name: (abs(worst[name] - mine), name))[:_NEAREST]
    if not nearest:
        return
    further = sum((value > mine) if above else (value < mine) for value in worst.values())
    yield (
        f"of {len(worst) + 1} episodes of {row['source']} with this check, {further} are further "
        f"{'above' if above else 'below'}; nearest:"
    )
    outcomes = ledger.filter(pc.field("episode_id").isin(nearest)).to_pylist()
    said = {other["episode_id"]: f"{other['outcome']}{_by(other)}" for other in outcomes}
    for name in nearest:
        yield f"  {name}: {_number(worst[name], decisive['unit'])}, {said.get(name, 'unknown')}"


def _relatives(row: Row, ledger: pa.Table) -> Iterator[str]:
    """Those that this one gives way to or stands for."""
    name = row["episode_id"]
    if row["duplicate_of"]:
        kept = ledger.filter(pc.field("episode_id") == row["duplicate_of"]).to_pylist()
        stays = kept[0]["outcome"] if kept else "gone"
        said = "its representative" if row["stage"] == DEDUPLICATION else "it repeats, by deduplication,"
        yield f"{said} {row['duplicate_of']} is {stays}"
    same = ledger.filter(pc.field("duplicate_of") == (row["duplicate_of"] or name)).to_pylist()
    others = [other for other in same if other["episode_id"] != name]
    if others:
        yield "others that give way to the same episode:" if row["duplicate_of"] else "it stands for:"
        for other in others[:_LISTED]:
            yield f"  {other['episode_id']}: {other['detail']}"
        if len(others) > _LISTED:
            yield f"  and {len(others) - _LISTED} more"
