"""LoadRecordings: a configuration's recordings, read by the pipeline itself or from a Ray Data dataset."""

from __future__ import annotations

import apache_beam as beam
from apache_beam.transforms.error_handling import ErrorHandler

from beam_pipeline.options import ReadWith
from beam_pipeline.runner.ray_data import ReadFromRayData
from transforms.episode import Recording
from transforms.loader import LoaderConfig, MultimodalLoader
from transforms.recording_rows import UnpackRecordings


class LoadRecordings(beam.PTransform):
    """The same recordings, dead letters and counters whatever reads them; a root of the pipeline.

    With Ray Data all are read when the transform is applied, before the pipeline runs.
    """

    def __init__(self, config: LoaderConfig, read_with: ReadWith, plan_dir: str | None = None) -> None:
        super().__init__()
        self._config = config
        self._read_with = read_with
        self._plan_dir = plan_dir
        self._handler: ErrorHandler | None = None
        self._fail_fast = False

    def with_error_handler(self, handler: ErrorHandler | None, fail_fast: bool = False) -> LoadRecordings:
        """Send unreadable recordings to Beam's ErrorHandler; None raises them."""
        self._handler = handler
        self._fail_fast = fail_fast
        return self

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[Recording]:
        config = self._config
        if self._read_with == "beam":
            loader = MultimodalLoader(config.sources, config.embodiments, config.media, self._plan_dir)
            return begin | "Load" >> loader.with_error_handler(self._handler, self._fail_fast)
        rows = begin | "Read dataset" >> ReadFromRayData(self._dataset)
        return rows | "Unpack recordings" >> UnpackRecordings().with_error_handler(self._handler)

    def _dataset(self) -> object:
        dataset = MultimodalLoader.ray_dataset(self._config, self._plan_dir, self._fail_fast)
        # the pipeline's own display has the terminal
        dataset.context.enable_progress_bars = False
        return dataset
