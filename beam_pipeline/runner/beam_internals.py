"""Everything the runner takes from Beam's private modules, so that a new Beam version is one room's work."""

from __future__ import annotations

import apache_beam as beam
from apache_beam import coders
from apache_beam.coders import coder_impl
from apache_beam.internal import pickler
from apache_beam.metrics import cells, monitoring_infos
from apache_beam.metrics.execution import MetricKey, MetricResult
from apache_beam.portability import common_urns, python_urns
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
    metrics_pb2,
)
from apache_beam.runners import common
from apache_beam.runners.common import ENCODED_IMPULSE_VALUE
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.runners.pipeline_utils import (
    group_by_key_input_visitor,
    merge_common_environments,
    merge_superset_dep_environments,
    validate_pipeline_graph,
)
from apache_beam.runners.portability.fn_api_runner import translations, worker_handlers
from apache_beam.runners.worker import bundle_processor, data_plane, operations, sdk_worker, sdk_worker_main, statecache
from apache_beam.transforms import environments, trigger, window
from apache_beam.utils import proto_utils, windowed_value

BEAM_VERSION = "2.77.0"

__all__ = [
    "BEAM_VERSION",
    "ENCODED_IMPULSE_VALUE",
    "MetricKey",
    "MetricResult",
    "PipelineContext",
    "beam_fn_api_pb2",
    "beam_provision_api_pb2",
    "beam_provision_api_pb2_grpc",
    "beam_runner_api_pb2",
    "bundle_processor",
    "cells",
    "check_beam_version",
    "coder_impl",
    "coders",
    "common",
    "common_urns",
    "data_plane",
    "endpoints_pb2",
    "environments",
    "group_by_key_input_visitor",
    "merge_common_environments",
    "merge_superset_dep_environments",
    "metrics_pb2",
    "monitoring_infos",
    "operations",
    "pickler",
    "proto_utils",
    "python_urns",
    "sdk_worker",
    "sdk_worker_main",
    "statecache",
    "translations",
    "trigger",
    "validate_pipeline_graph",
    "window",
    "windowed_value",
    "worker_handlers",
]


def check_beam_version() -> None:
    """Raise RuntimeError where another Beam is installed than the one whose private modules are used here."""
    found = beam.__version__
    if found != BEAM_VERSION:
        raise RuntimeError(
            f"RayRunner works with apache-beam {BEAM_VERSION}, whose private modules it uses; {found} is installed. "
            f"Install apache-beam=={BEAM_VERSION}, or run with --runner=DirectRunner"
        )
