"""A Ray Data source of recordings: planned and read as MultimodalLoader does, one row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import ray
import ray.data
from ray.data import Dataset, Datasource, ReadTask
from ray.data.block import BlockMetadata

from transforms.conventions import Source
from transforms.episode import RecordingRef
from transforms.loader import PlanRecordings, ReadRecording
from transforms.recording_rows import ROW_SCHEMA, recording_rows
from transforms.stage import attempt
from transforms.stores.paths import located

__all__ = ["Dataset", "RecordingDatasource", "recording_dataset"]


class RecordingDatasource(Datasource):
    """Planned recordings, read in tasks of neighbours; what cannot be read is a row too, with `error` set.

    With `fail_fast` a reader's own failure ends the read; an unreadable recording is a row all the same.
    """

    def __init__(self, refs: Sequence[RecordingRef], reader: ReadRecording, fail_fast: bool = False) -> None:
        super().__init__()
        self._refs = tuple(refs)
        self._reader = reader
        self._fail_fast = fail_fast
        files = Counter(ref.uri for ref in refs)
        sizes = {uri: _file_size(located(uri)) // recordings for uri, recordings in files.items()}
        self._sizes = [sizes[ref.uri] for ref in refs]

    def estimate_inmemory_data_size(self) -> int | None:
        """Bytes of the planned files, which are about those of their recordings; None where none is known."""
        return sum(self._sizes) or None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object | None = None
    ) -> list[ReadTask]:
        """At most `parallelism` tasks, each of recordings that were planned one after the other."""
        count = max(1, min(parallelism, len(self._refs)))
        ends = [len(self._refs) * (index + 1) // count for index in range(count)]
        tasks = []
        for start, stop in zip([0, *ends], ends, strict=False):
            refs = self._refs[start:stop]
            metadata = BlockMetadata(
                num_rows=len(refs),
                size_bytes=sum(self._sizes[start:stop]),
                input_files=tuple(dict.fromkeys(ref.uri for ref in refs)),
                exec_stats=None,
            )
            read = partial(_read, refs, self._reader, self._fail_fast)
            tasks.append(ReadTask(read, metadata, schema=ROW_SCHEMA, per_task_row_limit=per_task_row_limit))
        return tasks


def recording_dataset(
    sources: Sequence[Source], reader: ReadRecording, plan_dir: str | None = None, fail_fast: bool = False
) -> Dataset:
    """Plan the sources in workers, side by side, and make a dataset of their recordings; nothing is read yet."""
    plan = ray.remote(_plan)
    planned: list[list[RecordingRef]] = ray.get([plan.remote(source, plan_dir, fail_fast) for source in sources])
    refs = [ref for of_source in planned for ref in of_source]
    return ray.data.read_datasource(RecordingDatasource(refs, reader, fail_fast))


def _plan(source: Source, plan_dir: str | None, fail_fast: bool) -> list[RecordingRef]:
    return list(PlanRecordings(plan_dir, fail_fast).process(source))


def _read(refs: Sequence[RecordingRef], reader: ReadRecording, fail_fast: bool) -> Iterator[pa.Table]:
    reader.setup()
    for ref in refs:
        yield recording_rows(ref, attempt(reader, ref, fail_fast))


def _file_size(path: Path) -> int:
    """Bytes of a file; 0 where it is none, since it only steers how many tasks read."""
    return path.stat().st_size if path.is_file() else 0
