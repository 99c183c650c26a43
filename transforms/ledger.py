"""The ledger's rows: one per planned input and per child cut out of it; and the columns of the evidence table."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow as pa

from transforms.episode_rows import FINDING_FIELDS
from transforms.evidence import LedgerRow
from transforms.output_files import portable
from transforms.stage import DeadLetter

_TEXT, _NS, _REAL = pa.string(), pa.int64(), pa.float64()
LEDGER_SCHEMA = pa.schema(
    [
        ("episode_id", _TEXT),
        ("content_id", _TEXT),
        ("parent_id", _TEXT),
        ("start_ns", _NS),
        ("end_ns", _NS),
        ("outcome", _TEXT),
        ("stage", _TEXT),
        ("rule", _TEXT),
        ("value", _REAL),
        ("threshold", _REAL),
        ("unit", _TEXT),
        ("detail", _TEXT),
        ("duplicate_of", _TEXT),
        ("uri", _TEXT),
        ("n_steps", pa.int64()),
        ("n_children", pa.int64()),
    ]
)
EVIDENCE_SCHEMA = pa.schema([("episode_id", _TEXT), ("content_id", _TEXT), *FINDING_FIELDS])


def from_dead_letter(letter: DeadLetter) -> LedgerRow:
    """The row of an input that a stage could not read or process."""
    return LedgerRow(
        episode_id=letter.episode_id,
        source=letter.source,
        outcome="quarantined",
        parent_id=letter.parent_id,
        start_ns=letter.start_ns,
        end_ns=letter.end_ns,
        stage=letter.stage,
        rule=letter.rule,
        detail=letter.detail,
        uri=letter.uri,
        n_steps=letter.n_steps,
    )


def ledger_columns(row: LedgerRow, root: str) -> dict[str, object]:
    """A ledger row's columns, free of this machine's paths; the source is the partition, not a column."""
    columns = asdict(row) | {"uri": portable(row.uri, root), "detail": portable(row.detail, root)}
    return {name: columns[name] for name in LEDGER_SCHEMA.names}
