"""Feeds a pipeline from a Ray Data dataset: its blocks stay in Ray's object store until workers fetch them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import apache_beam as beam

from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.session.cluster import ray_for_datasets

if TYPE_CHECKING:
    import pyarrow as pa
    from ray import ObjectRef
    from ray.data import Dataset

_ROWS_AT_ONCE_BYTES = 16 << 20
BlockAddress = tuple[bytes, bytes, bytes]
"""Where any process of the Ray session finds a block: the object's id, its owner's address, its status there."""


class ReadFromRayData(beam.PTransform):
    """The rows of a `ray.data.Dataset`, each a dict by column name; a root of the pipeline.

    The dataset is executed when the transform is applied, whole: a pipeline that reads it starts when all its blocks
    lie in the object store, which spills what it cannot hold. They stay there as long as the pipeline object or the
    result of its run, so that a bundle that is repeated reads the same rows. `dataset` may also be a function that
    makes one; it is called once Ray is connected, as the pipeline's options say. To execute datasets elsewhere in a
    session, enter `ray_for_datasets` first, lest they wait for the CPUs of warm workers.

    Runs on RayRunner, within the session that executed the dataset, and on runners whose workers are threads of this
    process. Raises RuntimeError where no Ray would outlive the execution.
    """

    def __init__(self, dataset: Dataset | Callable[[], Dataset]) -> None:
        super().__init__()
        self._dataset = dataset

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[dict[str, Any]]:
        with ray_for_datasets(RunnerConfig.from_options(begin.pipeline.options)):
            dataset = self._dataset() if callable(self._dataset) else self._dataset
            refs = dataset.to_arrow_refs()
            addresses = [_address(ref) for ref in refs]
        # the blocks live as long as these references of their owner
        weakref.finalize(begin.pipeline, refs.clear)
        return (
            begin
            | "List blocks" >> beam.Create(addresses, reshuffle=False).with_output_types(BlockAddress)
            | "Spread blocks" >> beam.Reshuffle()
            | "Read rows" >> beam.ParDo(_ReadBlock()).with_output_types(dict[str, Any])
        )


class _ReadBlock(beam.DoFn):
    def process(self, address: BlockAddress) -> Iterator[dict[str, Any]]:
        yield from _rows(_fetch(address))


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as Python values, made about 16 MB at a time."""
    each = max(1, table.nbytes // max(1, table.num_rows))
    for batch in table.to_batches(max_chunksize=max(1, _ROWS_AT_ONCE_BYTES // each)):
        yield from batch.to_pylist()


def _address(ref: ObjectRef) -> BlockAddress:
    import ray
    from ray._private.worker import global_worker

    if not isinstance(ref, ray.ObjectRef):
        raise RuntimeError(
            f"the dataset's blocks are {type(ref).__name__}, which workers cannot fetch: Ray is joined as a client "
            "(ray://); run the pipeline on the cluster and give --ray_address=auto"
        )
    # not pickled: Ray would keep the block for as long as this process lives
    _, owner, status = global_worker.core_worker.serialize_object_ref(ref)
    return ref.binary(), owner, status


def _fetch(address: BlockAddress) -> pa.Table:
    import ray
    from ray._private.serialization import _object_ref_deserializer

    if not ray.is_initialized():
        raise RuntimeError(
            "a block of a Ray dataset is read in a process that Ray did not start; run the pipeline with "
            "--runner=RayRunner, or with a runner whose workers are threads of this process"
        )
    block, owner, status = address
    return ray.get(_object_ref_deserializer(block, "", owner, status, None))
