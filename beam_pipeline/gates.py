"""Gates: limits on a source's outcomes; where one fails, nothing is published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from beam_pipeline.summary import SourceOutcomes


@dataclass(frozen=True)
class Gate:
    """Limits on one source; None asks nothing. Fractions are of the present inputs: declared and absent ones aside."""

    max_rejected_fraction: float | None = None
    max_quarantined_fraction: float | None = None
    min_kept: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_rejected_fraction", "max_quarantined_fraction"):
            limit = getattr(self, name)
            if limit is not None and not 0 <= limit <= 1:
                raise ValueError(f"gates.{name} is {limit}; need 0 <= fraction <= 1")
        if self.min_kept is not None and self.min_kept < 0:
            raise ValueError(f"gates.min_kept is {self.min_kept}; need 0 or more")


@dataclass(frozen=True)
class GateParams(Gate):
    """Limits on every source, and by name under `sources` others in their place."""

    sources: Mapping[str, Gate] = field(default_factory=dict)


@dataclass(frozen=True)
class GateFailure:
    """A gate that a source does not pass: nothing is published."""

    source: str
    gate: str
    value: float
    limit: float

    def __str__(self) -> str:
        relation = "less" if self.gate == "min_kept" else "more"
        return (
            f"source {self.source!r}: {self.gate} is {self.value:g}, {relation} than {self.limit:g}; "
            f"see the reasons above, or change gates.{self.gate}"
        )


def check_gates(params: GateParams, outcomes: Sequence[SourceOutcomes]) -> list[GateFailure]:
    """The gates that each source fails, by source and gate; outcomes are those of `summarise`, every source present."""
    failures = []
    for source in outcomes:
        gate = params.sources.get(source.source, params)
        present = max(source.present, 1)
        found = {
            "max_rejected_fraction": source.rejected / present,
            "max_quarantined_fraction": source.quarantined_present / present,
            "min_kept": source.kept,
        }
        for name, value in found.items():
            limit = getattr(gate, name)
            if limit is not None and (value < limit if name == "min_kept" else value > limit):
                failures.append(GateFailure(source.source, name, value, limit))
    return failures
