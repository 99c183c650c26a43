"""What a run returns to whoever started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from beam_pipeline.summary import RunSummary, SourceOutcomes
from transforms.output_files import PartReport


@dataclass(frozen=True)
class RunResult:
    """What a run came to: where its files are, outcomes per source, Beam's committed counters, what to look at.

    `summary` is what run_summary.json holds.
    """

    output: Path
    manifest: Path
    outcomes: tuple[SourceOutcomes, ...]
    counters: Mapping[str, int]
    files: tuple[Path, ...]
    summary: RunSummary
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvidenceResult:
    """What measuring came to: the files that hold it, and Beam's committed counters."""

    files: tuple[PartReport, ...]
    counters: Mapping[str, int]
