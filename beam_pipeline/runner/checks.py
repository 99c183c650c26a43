"""What RayRunner cannot run is told before any work, with the transform's name and a remedy."""

from __future__ import annotations

from apache_beam.io.iobase import Read
from apache_beam.io.unbounded_source import ReadFromUnboundedSource, UnboundedCountingSource
from apache_beam.pipeline import AppliedPTransform, Pipeline, PipelineVisitor
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.utils.timestamp import MAX_TIMESTAMP

from beam_pipeline.runner.beam_internals import (
    beam_runner_api_pb2,
    common_urns,
    proto_utils,
    python_urns,
    translations,
)
from beam_pipeline.runner.errors import UnsupportedPipeline

_SUPPORTED = frozenset(
    [
        common_urns.requirements.REQUIRES_STATEFUL_PROCESSING.urn,
        common_urns.requirements.REQUIRES_BUNDLE_FINALIZATION.urn,
        common_urns.requirements.REQUIRES_SPLITTABLE_DOFN.urn,
    ]
)
_UNBOUNDED = beam_runner_api_pb2.IsBounded.UNBOUNDED
_END_BY_THEMSELVES = (UnboundedCountingSource,)


def check_pipeline(pipeline: beam_runner_api_pb2.Pipeline) -> None:
    """Raise UnsupportedPipeline for TestStream, unbounded sources, other languages and requirements unknown here."""
    transforms = pipeline.components.transforms
    for transform in transforms.values():
        name = transform.unique_name
        if transform.spec.urn == common_urns.primitives.TEST_STREAM.urn:
            raise UnsupportedPipeline(
                f"{name} is a TestStream, which needs a streaming runner; RayRunner is a batch runner. "
                "Test it with --runner=DirectRunner"
            )
        if transform.spec.urn == common_urns.deprecated_primitives.READ.urn:
            payload = proto_utils.parse_Bytes(transform.spec.payload, beam_runner_api_pb2.ReadPayload)
            if payload.is_bounded == _UNBOUNDED:
                raise _unbounded(name)
    for requirement in pipeline.requirements:
        if requirement not in _SUPPORTED:
            raise UnsupportedPipeline(
                f"the pipeline requires {requirement}, which RayRunner does not offer; "
                f"it offers {', '.join(sorted(_SUPPORTED))}"
            )
    for transform in transforms.values():
        environment = pipeline.components.environments.get(transform.environment_id)
        runs = transform.spec.urn in translations.PAR_DO_URNS or not transform.subtransforms
        if runs and environment is not None and environment.urn != python_urns.EMBEDDED_PYTHON:
            raise UnsupportedPipeline(
                f"{transform.unique_name} runs in an environment of {environment.urn}; RayRunner runs Python "
                "transforms in Ray workers. Use the transform's Python form, or a portable runner"
            )


def _unbounded(name: str) -> UnsupportedPipeline:
    return UnsupportedPipeline(
        f"{name} reads an unbounded source, which never ends; RayRunner is a batch runner. "
        "Bound the source (BoundedSource, max_num_records, max_read_time) or use a streaming runner"
    )


class _UnboundedVisitor(PipelineVisitor):
    """Finds the roots of a pipeline that never end."""

    def enter_composite_transform(self, node: AppliedPTransform) -> None:
        transform = node.transform
        if isinstance(transform, ReadFromUnboundedSource) and not isinstance(transform._source, _END_BY_THEMSELVES):
            raise _unbounded(node.full_label)
        if isinstance(transform, PeriodicImpulse) and transform.stop_ts == MAX_TIMESTAMP and not transform.data:
            raise _unbounded(node.full_label)

    def visit_transform(self, node: AppliedPTransform) -> None:
        source = getattr(node.transform, "source", None)
        if isinstance(node.transform, Read) and source is not None and not source.is_bounded():
            raise _unbounded(node.full_label)


def check_sources(pipeline: Pipeline) -> None:
    """Raise UnsupportedPipeline for a source that never ends.

    Beam's own counting source, and periodic impulses with a stop, are unbounded by type and known to end: these run.
    """
    pipeline.visit(_UnboundedVisitor())
