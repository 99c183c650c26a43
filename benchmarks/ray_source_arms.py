"""The job of the recordings' benchmark: what both sides run, in a module that their processes can import."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import apache_beam as beam
import ray
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.load_recordings import LoadRecordings
from beam_pipeline.options import ReadWith
from beam_pipeline.runner import resolve_runner
from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.session.cluster import ray_for_datasets
from benchmarks.runner_lanes import NAMESPACE, Outcome, Tally
from transforms.conventions import Embodiment, Source
from transforms.episode import Recording
from transforms.loader import MultimodalLoader
from transforms.media import MediaParams


@dataclass(frozen=True)
class Inputs:
    """What the loader needs to know, of one corpus."""

    sources: tuple[Source, ...]
    embodiments: Mapping[str, Embodiment] = field(default_factory=dict)
    media: MediaParams = field(default_factory=MediaParams)


def steps_of(recording: Recording) -> int:
    """Rows of a recording, all of its streams together."""
    return sum(stream.num_rows for stream in recording.streams.values())


@dataclass(frozen=True)
class Load:
    """One pipeline, built and run, that loads a corpus."""

    inputs: Inputs
    read_with: ReadWith
    runner: str
    flags: tuple[str, ...]

    def __call__(self) -> Outcome:
        started = time.perf_counter()
        pipeline = beam.Pipeline(runner=resolve_runner(self.runner), options=PipelineOptions(list(self.flags)))
        recordings = pipeline | "Load recordings" >> LoadRecordings(self.inputs, self.read_with)
        steps = recordings | "Count steps" >> beam.Map(steps_of).with_output_types(int)
        _ = steps | "Tally" >> beam.ParDo(Tally())
        result = pipeline.run()
        result.wait_until_finish()
        seconds = time.perf_counter() - started
        found = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))
        return Outcome(seconds, {c.key.metric.name: int(c.committed) for c in found["counters"]})


@dataclass(frozen=True)
class Execute:
    """The Ray Data read of a corpus into the object store, with no pipeline and no worker of one beside it."""

    inputs: Inputs
    flags: tuple[str, ...]

    def __call__(self) -> Outcome:
        started = time.perf_counter()
        with ray_for_datasets(RunnerConfig.from_options(PipelineOptions(list(self.flags)))):
            dataset = MultimodalLoader.ray_dataset(self.inputs)
            dataset.context.enable_progress_bars = False
            blocks = dataset.to_arrow_refs()
        seconds = time.perf_counter() - started
        tables = ray.get(blocks)
        steps = sum(sum(table.column("n_steps").to_pylist()) for table in tables)
        return Outcome(seconds, {"count": sum(table.num_rows for table in tables), "total": steps})
