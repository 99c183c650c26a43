"""Verdicts of people: a table that overrules the rules, episode by episode, and says who decided and why."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from transforms.episode import Finding
from transforms.evidence import Decision, LedgerRow

STAGE = "verdicts"
KEEP, REJECT = "verdict.keep", "verdict.reject"
"""Rules of the ledger's rows that a person decided."""
COLUMNS = ("episode_id", "verdict", "who", "why")
NO_EPISODE = "metadata.verdict_without_episode"
"""Check of the finding that a verdict names an episode of an earlier run, which this one has not."""
_NAMED = 5
"""Near or unknown ids that a message names at most."""


@dataclass(frozen=True)
class Verdict:
    """What one person says of one episode; `place` is the file and line that says it."""

    episode_id: str
    verdict: Literal["keep", "reject"]
    who: str
    why: str
    place: str


class VerdictError(ValueError):
    """A verdict that cannot be followed; the message names the file, the line and what to do."""


def read_verdicts(path: Path) -> dict[str, Verdict]:
    """Episode id -> verdict, of a CSV file with the columns episode_id, verdict, who, why in any order.

    Raises VerdictError for an unreadable file, a header that lacks a column, and a malformed line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise VerdictError(f"{path}: cannot read the verdicts: {error}") from error
    rows = csv.reader(text.splitlines(keepends=True), strict=True)
    found: dict[str, Verdict] = {}
    header: list[str] = []
    try:
        for cells in rows:
            where = f"{path}:{rows.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(cells, where)
                continue
            verdict = _verdict(cells, header, where)
            if verdict.episode_id in found:
                earlier = found[verdict.episode_id].place
                raise VerdictError(f"{where}: {verdict.episode_id!r} has a verdict at {earlier} already; keep one")
            found[verdict.episode_id] = verdict
    except csv.Error as error:
        raise VerdictError(f"{path}:{rows.line_num}: not CSV: {error}") from error
    if not header:
        raise VerdictError(f"{path}:1: the file is empty; its first line is {','.join(COLUMNS)}")
    return found


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    if sorted(names) != sorted(COLUMNS):
        raise VerdictError(f"{where}: the columns are {', '.join(names)}; need {', '.join(COLUMNS)}")
    return names


def _verdict(cells: list[str], header: list[str], where: str) -> Verdict:
    if len(cells) != len(header):
        raise VerdictError(
            f"{where}: the line has {len(cells)} fields, the header {len(header)}; quote text that holds a comma"
        )
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    for name in COLUMNS:
        if not row[name]:
            raise VerdictError(f"{where}: {name} is empty; a verdict says which episode, what, who and why")
    said = row["verdict"]
    word: Literal["keep", "reject"]
    if said == "keep":
        word = "keep"
    elif said == "reject":
        word = "reject"
    else:
        raise VerdictError(f"{where}: verdict is {said!r}; use keep or reject")
    return Verdict(row["episode_id"], word, row["who"], row["why"], where)


def overrule(decision: Decision, verdict: Verdict) -> Decision:
    """The decision that a person made in place of the rules'; what the rules say stays in value, limit and detail."""
    done = "kept" if verdict.verdict == "keep" else "rejected"
    return replace(
        decision,
        outcome="kept" if verdict.verdict == "keep" else "rejected",
        stage=STAGE,
        rule=KEEP if verdict.verdict == "keep" else REJECT,
        detail=f"{done} by {verdict.who}: {verdict.why}; {by_rules(decision)}",
    )


def by_rules(decision: Decision) -> str:
    """What the rules say of an episode, in one clause."""
    if decision.outcome == "kept":
        return "the rules keep it"
    if decision.outcome == "duplicate":
        return f"the rules drop it as a duplicate: {decision.detail}"
    value = "" if decision.value is None else f" {decision.value:g} {decision.unit}".rstrip()
    limit = "" if decision.threshold is None else f", limit {decision.threshold:g}"
    detail = f"; {decision.detail}" if decision.detail else ""
    return f"the rules reject it: {decision.rule}{value}{limit}{detail}"


def check_verdicts(
    verdicts: Mapping[str, Verdict],
    decided: Iterable[str],
    others: Mapping[str, LedgerRow],
    earlier: Mapping[str, str],
) -> list[Verdict]:
    """The verdicts on episodes that only an earlier run knew.

    `decided` are the episodes that rules judge, `others` what left before (quarantined, cut, reset), `earlier` the
    ids of earlier runs. Raises VerdictError for a `keep` of what has no episode, and for an unknown id.
    """
    known = set(decided)
    stale: list[Verdict] = []
    unknown: list[Verdict] = []
    for name in sorted(verdicts):
        verdict = verdicts[name]
        if name in known:
            continue
        row = others.get(name)
        if row is not None:
            _possible(verdict, row)
        elif name in earlier:
            stale.append(verdict)
        else:
            unknown.append(verdict)
    if unknown:
        lines = [f"{v.place}: {unknown_id(v.episode_id, known | set(others))}" for v in unknown[:_NAMED]]
        more = [f"and {len(unknown) - _NAMED} more"] if len(unknown) > _NAMED else []
        raise VerdictError("\n".join(lines + more))
    return stale


def without_episode(verdict: Verdict) -> Finding:
    """The warning that a verdict is on an episode which only an earlier run had."""
    return Finding(
        stage=STAGE,
        check=NO_EPISODE,
        detail=f"{Path(verdict.place).name}: {verdict.verdict} by {verdict.who}: an earlier run had this episode, "
        "this one has not; remove the line if it is gone for good",
        status="not_run",
    )


def unknown_id(name: str, known: Collection[str]) -> str:
    """A message that no episode has this id, with the nearest ones."""
    near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "no id is near; the ledger lists them all"
    return f"no episode is {name!r}; {hint}"


def _possible(verdict: Verdict, row: LedgerRow) -> None:
    name = verdict.episode_id
    if row.outcome == "cut":
        raise VerdictError(
            f"{verdict.place}: {name!r} was cut into {row.n_children} parts, and each is decided for itself; "
            f"name them: the ledger has {name!r} as their parent_id"
        )
    if verdict.verdict == "keep":
        what = "quarantined" if row.outcome == "quarantined" else "set aside"
        remedy = "mend the recording" if row.outcome == "quarantined" else "change episode_boundary"
        reason = f"{row.rule}: {row.detail}" if row.detail else row.rule
        raise VerdictError(
            f"{verdict.place}: {name!r} cannot be kept, it was {what} ({reason}); "
            f"there are no steps to keep: {remedy}, or remove the line"
        )
