"""The names of all metrics of a run that DemoSift gives to Prometheus: what each counts, its unit and its labels.

Totals are pushed once, at the end of a run. They are gauges of the last run, not counters: a run starts from nothing.
What a run is doing meanwhile, RayRunner tells by Ray's metrics (`beam_pipeline.runner.live_metrics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from beam_pipeline.gates import GateFailure
from beam_pipeline.summary import RunSummary, SourceOutcomes, StageCount

JOB = "demosift"
OUTCOMES = ("kept", "rejected", "duplicate", "quarantined", "cut")
ENDS = ("in", "out", "dead")


@dataclass(frozen=True)
class Metric:
    """One name. `labels` are its own; those of the grouping key come with every series."""

    name: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One value of a metric; `labels` in the metric's order."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


LAST_RUN_FAILED = Metric("demosift_last_run_failed", "1 or 0", "Whether the last run failed, a failed gate included.")
LAST_RUN_STATUS = Metric("demosift_last_run_exit_status", "status", "Exit status of the last run: 0 to 3, 130 or 143.")
LAST_RUN = Metric("demosift_last_run_timestamp_seconds", "s since 1970", "When the last run ended.")
LAST_SUCCESS = Metric("demosift_last_success_timestamp_seconds", "s since 1970", "When the last success ended.")
DURATION = Metric("demosift_run_duration_seconds", "s", "Wall time of the last run.")
INPUTS = Metric("demosift_inputs", "inputs", "Inputs that the sources planned.", ("source",))
EPISODES = Metric("demosift_episodes", "rows", "Rows of the ledger by outcome.", ("source", "outcome"))
NOT_KEPT = Metric("demosift_not_kept", "rows", "Rows of the ledger that were not kept, by rule.", ("source", "rule"))
DEAD_LETTERS = Metric("demosift_dead_letters", "inputs", "Present inputs that left as dead letters.", ("source",))
STAGE = Metric("demosift_stage_elements", "elements", "What a stage took in, put out, lost.", ("stage", "end"))
FILES = Metric("demosift_output_files", "files", "Published files.", ("table", "source"))
ROWS = Metric("demosift_output_rows", "rows", "Rows in published files.", ("table", "source"))
BYTES = Metric("demosift_output_bytes", "bytes", "Bytes of published files.", ("table", "source"))
MEASURED = Metric("demosift_measured_episodes", "episodes", "Episodes that `evidence` stored.", ("source",))
LEFT_BEFORE = Metric("demosift_measured_left", "inputs", "Inputs that were cut or quarantined meanwhile.", ("source",))
GATES_FAILED = Metric("demosift_gates_failed", "gates", "Gates that the last run failed; 0 after one that passed.")
GATE_VALUE = Metric("demosift_gate_value", "fraction, episodes", "Value of a gate that failed.", ("source", "gate"))

PUSHED: tuple[Metric, ...] = (
    LAST_RUN_FAILED,
    LAST_RUN_STATUS,
    LAST_RUN,
    LAST_SUCCESS,
    DURATION,
    INPUTS,
    EPISODES,
    NOT_KEPT,
    DEAD_LETTERS,
    STAGE,
    FILES,
    ROWS,
    BYTES,
    MEASURED,
    LEFT_BEFORE,
    GATES_FAILED,
    GATE_VALUE,
)


def ended(status: int, now_s: float, seconds: float, gates: Sequence[GateFailure] = ()) -> list[Sample]:
    """What every run tells: how and when it ended, how long it took. `now_s`: seconds since 1970."""
    samples = [
        Sample(LAST_RUN_FAILED, float(status != 0)),
        Sample(LAST_RUN_STATUS, status),
        Sample(LAST_RUN, now_s),
        Sample(DURATION, seconds),
        Sample(GATES_FAILED, len(gates)),
        *(Sample(GATE_VALUE, gate.value, (gate.source, gate.gate)) for gate in gates),
    ]
    return samples if status else [*samples, Sample(LAST_SUCCESS, now_s)]


def of_outcomes(outcomes: Iterable[SourceOutcomes]) -> list[Sample]:
    """What became of every source's inputs; the rules are those of the ledger."""
    samples = []
    for source in outcomes:
        name = source.source
        samples.append(Sample(INPUTS, source.planned, (name,)))
        samples += [Sample(EPISODES, getattr(source, outcome), (name, outcome)) for outcome in OUTCOMES]
        samples += [Sample(NOT_KEPT, count, (name, rule)) for rule, count in source.reasons]
        samples.append(Sample(DEAD_LETTERS, source.quarantined_present, (name,)))
    return samples


def of_stages(stages: Iterable[StageCount]) -> list[Sample]:
    """Beam's committed counts of each stage."""
    return [
        Sample(STAGE, count, (stage.stage, end))
        for stage in stages
        for end, count in zip(ENDS, (stage.taken, stage.put_out, stage.dead), strict=True)
    ]


def of_summary(summary: RunSummary) -> list[Sample]:
    """Everything that a published run came to, but for how it ended."""
    sizes = [
        Sample(metric, value, (size.table, size.source))
        for size in summary.sizes
        for metric, value in ((FILES, size.files), (ROWS, size.rows), (BYTES, size.bytes))
    ]
    return [*of_outcomes(summary.outcomes), *of_stages(summary.stages), *sizes]


def of_evidence(rows: Mapping[str, tuple[int, int]], stages: Iterable[StageCount]) -> list[Sample]:
    """What `evidence` stored: by source the episodes, and the inputs that left before."""
    samples = [
        Sample(metric, count, (source,))
        for source, counts in sorted(rows.items())
        for metric, count in zip((MEASURED, LEFT_BEFORE), counts, strict=True)
    ]
    return [*samples, *of_stages(stages)]
