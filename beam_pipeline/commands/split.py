"""`split`: train, validation and test for a published output, per duplicate component.

Exit status: 0 done, 1 the output cannot be read, 2 bad usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from beam_pipeline.commands.command import BAD_USAGE, DONE, FAILED, error_console, output_console, print_plain
from beam_pipeline.curated import CuratedSet
from beam_pipeline.output_folder import OutputError
from beam_pipeline.training.splits import (
    NAMES,
    Assigned,
    SplitParams,
    assign,
    members,
    straddling,
    write_splits,
)

USAGE = (
    "usage: python -m beam_pipeline split --output DIR [--val 0.1] [--test 0] [--seed 0] [--stratify] [--given]\n"
    "  --output    a published output; DIR/splits.parquet is written: episode_id, source, split, component\n"
    "  --val, --test  fractions of the episodes\n"
    "  --seed      another seed, another split\n"
    "  --stratify  meet the fractions in every source as near as components allow; new data may then move episodes\n"
    "  --given     keep the splits that a set itself names, except where near copies straddle them: those train\n"
    "exit status: 0 done, 1 the output cannot be read, 2 bad usage"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline split", add_help=False, allow_abbrev=False)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--val", type=float, default=SplitParams.val)
    parser.add_argument("--test", type=float, default=SplitParams.test)
    parser.add_argument("--seed", type=int, default=SplitParams.seed)
    parser.add_argument("--stratify", action="store_true")
    parser.add_argument("--given", action="store_true")
    return parser


def run(arguments: Sequence[str]) -> int:
    """Split a published output; returns the exit status."""
    errors = error_console()
    try:
        read = _parser().parse_args(arguments)
    except SystemExit:  # argparse has said why
        return BAD_USAGE
    try:
        params = SplitParams(read.val, read.test, read.seed, read.stratify, read.given)
    except ValueError as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    try:
        curated = CuratedSet(read.output)
        assigned = assign(members(curated), params)
        path = write_splits(curated, assigned, params)
    except OutputError as error:
        errors.print(f"error: {error}", markup=False)
        return FAILED
    console = output_console()
    console.print(counts(assigned))
    for note in notes(assigned, params):
        print_plain(console, note)
    print_plain(console, f"splits: {path}")
    return DONE


def counts(assigned: Sequence[Assigned]) -> Table:
    """Episodes of each source by split, and how many components they make."""
    table = Table(title="Episodes by split", title_justify="left")
    table.add_column("source")
    for name in (*NAMES, "components"):
        table.add_column(name, justify="right")
    for source in [*sorted({a.source for a in assigned}), None]:
        own = [a for a in assigned if source in (None, a.source)]
        numbers = [sum(a.split == name for a in own) for name in NAMES]
        numbers.append(len({a.component for a in own}))
        table.add_row(source or "all", *map(str, numbers), style=None if source else "bold")
    return table


def notes(assigned: Sequence[Assigned], params: SplitParams) -> list[str]:
    """What a user should know: sources without an episode in a split that was asked for, and given splits left."""
    found = []
    for split, share in (("val", params.val), ("test", params.test)):
        has = {a.source for a in assigned if a.split == split}
        without = sorted({a.source for a in assigned} - has)
        if share and without:
            more = "they have too few components" if params.stratify else "use --stratify, or a larger fraction"
            found.append(f"no {split} episode in {', '.join(without)}: {more}")
    if params.given:
        found += [
            f"{source}: {number} episodes left the split that the set names, since near copies lie in another"
            for source, number in straddling(assigned).items()
        ]
    return found
