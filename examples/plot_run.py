"""One picture of a curated run: outcomes per source, and why each of the first 16 others was not kept.

    python -m examples.plot_run OUTPUT -o PICTURE.png

Reads only the published ledger, so it shows what any user of the output can see.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import duckdb
import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

SHOWN = 16
COLOURS = {
    "kept": "#2a9d5c",
    "duplicate": "#8a8fd8",
    "rejected": "#d9722e",
    "quarantined": "#b23b3b",
    "cut": "#9a9a9a",
}


def table(output: Path, name: str) -> str:
    """A DuckDB relation over every file of one table of an output folder."""
    return f"read_parquet('{output}/{name}/*/*.parquet', hive_partitioning=true)"


def draw(output: Path, picture: Path) -> None:
    """Write the picture; raises duckdb.IOException where `output` holds no published run."""
    counts = duckdb.sql(
        f"select source, outcome, count(*) from {table(output, 'ledger')} group by all order by all"
    ).fetchall()
    why = duckdb.sql(
        "select episode_id, outcome, rule, value, threshold, unit, detail, duplicate_of "
        f"from {table(output, 'ledger')} "
        "where outcome in ('rejected', 'quarantined', 'duplicate') and rule <> 'declared_absent' order by all"
    ).fetchall()
    shown_of = f" (the first {SHOWN} of {len(why)})" if len(why) > SHOWN else ""
    why = why[:SHOWN]
    sources = sorted({source for source, _, _ in counts})
    figure, (bars, text) = plt.subplots(1, 2, figsize=(15, 1.2 + 0.32 * max(len(why), 6)), width_ratios=[1, 2.1])
    left = dict.fromkeys(sources, 0)
    for outcome, colour in COLOURS.items():
        widths = [sum(n for s, o, n in counts if (s, o) == (source, outcome)) for source in sources]
        if not any(widths):
            continue
        bars.barh(sources, widths, left=[left[s] for s in sources], color=colour, label=outcome)
        for place, (source, width) in enumerate(zip(sources, widths, strict=True)):
            if width:
                bars.text(left[source] + width / 2, place, str(width), ha="center", va="center", color="white")
            left[source] += width
    bars.set_title("Outcomes per source (every planned recording, once)", loc="left", fontsize=11)
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=4, frameon=False)
    bars.spines[["top", "right"]].set_visible(False)
    bars.invert_yaxis()
    text.axis("off")
    text.set_title(f"Why the others were not kept{shown_of}", loc="left", fontsize=11)
    for row, (episode, outcome, rule, value, threshold, unit, detail, original) in enumerate(why):
        height = 1 - (row + 0.5) / max(len(why), 6)
        measured = "" if value is None else f"{value:.4g}{' ' + unit if unit else ''}"
        limit = "" if threshold is None else f" (limit {threshold:g})"
        text.text(0.0, height, episode, color=COLOURS[outcome], family="monospace", fontsize=9, va="center")
        text.text(0.32, height, rule, family="monospace", fontsize=9, va="center")
        shown = f"of {original}, {measured}" if original else f"{measured}{limit}" or detail
        text.text(0.58, height, shown[:72], fontsize=9, va="center", color="#444444")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def main() -> int:
    """Draw one run."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("-o", "--picture", type=Path, required=True)
    options = arguments.parse_args()
    if not (options.output / "_manifest.json").exists():
        arguments.error(f"{options.output} holds no published run; curate into it first")
    draw(options.output, options.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
