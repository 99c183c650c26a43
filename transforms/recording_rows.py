"""Recordings as rows of a table: columns to look at and to filter by, and in `recording` the whole of it, exactly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.transforms.error_handling import ErrorHandler

from transforms.coders import decode, encode
from transforms.episode import STEPS, Recording, RecordingRef
from transforms.stage import DEAD, DeadLetter

ROW_SCHEMA = pa.schema(
    [
        ("recording_id", pa.string()),
        ("source", pa.string()),
        ("format", pa.string()),
        ("embodiment", pa.string()),
        ("uri", pa.string()),
        ("instruction", pa.string()),
        ("n_steps", pa.int64()),
        ("streams", pa.list_(pa.string())),
        ("cameras", pa.list_(pa.string())),
        ("success", pa.bool_()),
        ("error", pa.string()),
        ("dead_letter", pa.binary()),
        ("recording", pa.large_binary()),
    ]
)
"""`error` is `rule: detail` of a recording that could not be read, and `dead_letter` the whole letter; then every
column that only reading tells is null. Otherwise both are null. `recording` and `dead_letter` are as RecordingCoder and
DeadLetterCoder write them."""


def recording_rows(ref: RecordingRef, outcome: Sequence[Recording] | DeadLetter) -> pa.Table:
    """The rows of what reading a planned recording came to, by ROW_SCHEMA."""
    rows = [_dead_row(ref, outcome)] if isinstance(outcome, DeadLetter) else [_row(one) for one in outcome]
    return pa.Table.from_pylist(rows, schema=ROW_SCHEMA)


def from_row(row: Mapping[str, Any]) -> Recording | DeadLetter:
    """The recording of a row, or the letter where it could not be read."""
    if row["recording"] is None:
        return decode(row["dead_letter"], DeadLetter)
    return decode(row["recording"], Recording)


def _row(recording: Recording) -> dict[str, object]:
    streams = recording.streams
    steps = streams[STEPS].num_rows if STEPS in streams else max((s.num_rows for s in streams.values()), default=0)
    return {
        "recording_id": recording.recording_id,
        "source": recording.source,
        "format": recording.format,
        "embodiment": recording.embodiment,
        "uri": recording.uri,
        "instruction": next((utterance.text for utterance in recording.utterances), None),
        "n_steps": steps,
        "streams": sorted(streams),
        "cameras": sorted(recording.videos),
        "success": recording.success,
        "recording": encode(recording),
    }


def _dead_row(ref: RecordingRef, letter: DeadLetter) -> dict[str, object]:
    return {
        "recording_id": letter.episode_id,
        "source": letter.source,
        "format": ref.format,
        "uri": letter.uri,
        "error": f"{letter.rule}: {letter.detail}",
        "dead_letter": encode(letter),
    }


class _Unpack(beam.DoFn):
    """Counts as the stage that read the rows would have counted in Beam."""

    def __init__(self, stage: str, quarantine: bool) -> None:
        self._quarantine = quarantine
        self._in, self._out, self._dead = (
            Metrics.counter("demosift", f"{stage}.{end}") for end in ("in", "out", "dead")
        )

    def process(self, row: Mapping[str, Any]) -> Iterator[Any]:
        found = from_row(row)
        self._in.inc()
        if isinstance(found, Recording):
            self._out.inc()
            yield found
        elif self._quarantine:
            self._dead.inc()
            yield beam.pvalue.TaggedOutput(DEAD, found)
        else:
            raise ValueError(f"{found.episode_id}: {found.rule}: {found.detail}")


class UnpackRecordings(beam.PTransform):
    """Rows of `MultimodalLoader.ray_dataset` in, recordings out; dead letters go to the error handler."""

    def __init__(self, stage: str = "load") -> None:
        super().__init__()
        self._stage = stage
        self._handler: ErrorHandler | None = None

    def with_error_handler(self, handler: ErrorHandler | None) -> UnpackRecordings:
        """Send what could not be read to Beam's ErrorHandler; None raises it as ValueError."""
        self._handler = handler
        return self

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_handler"}

    def expand(self, rows: beam.PCollection[Mapping[str, Any]]) -> beam.PCollection[Recording]:
        unpack = beam.ParDo(_Unpack(self._stage, self._handler is not None)).with_output_types(Recording)
        results = rows | "Decode recordings" >> unpack.with_outputs(DEAD, main="main")
        if self._handler is not None:
            dead = results[DEAD]
            dead.element_type = DeadLetter
            self._handler.add_error_pcollection(dead)
        recordings = results["main"]
        recordings.element_type = Recording
        return recordings
