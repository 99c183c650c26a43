"""Which of Beam's tests make up a suite, and what of them is left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Suite:
    """Importable `modules`, cut down by pytest's -m (`marker`) and -k (`keyword`); `omitted` says what else and why.

    `flags`: options of every pipeline; a runner ignores those that are not its own.
    """

    modules: tuple[str, ...]
    marker: str = ""
    keyword: str = ""
    omitted: str = ""
    flags: tuple[str, ...] = ()


def _beam(names: str) -> tuple[str, ...]:
    return tuple(f"apache_beam.{name}" for name in names.split())


# tests that count batches, bundles or calls want a few elements in one bundle, as a runner with one worker has them
ONE_BUNDLE = ("--ray_workers_max=1",)
_TIMERS = (
    "et_timer_with_no: a timer that a later element sets anew or clears; FnApiRunner fails them too "
    "(https://github.com/apache/beam/issues/35168)"
)

SUITES: Mapping[str, Suite] = MappingProxyType(
    {
        "vr": Suite(
            _beam(
                "pipeline_test transforms.combinefn_lifecycle_test transforms.combiners_test "
                "transforms.deduplicate_test transforms.dofn_lifecycle_test transforms.ptransform_test "
                "transforms.sideinputs_test transforms.util_test metrics.metric_test ml.inference.base_test "
                "runners.portability.fn_api_runner.translations_test"
            ),
            marker="it_validatesrunner",
        ),
        "fnapi": Suite(
            ("tests.conformance.rebased_fnapi",),
            keyword="not et_timer_with_no",
            omitted=f"FnApiRunnerSplitTest: it steers splits through FnApiRunner's own gRPC worker. {_TIMERS}",
        ),
        "core": Suite(
            _beam(
                "pipeline_test transforms.ptransform_test transforms.combiners_test transforms.util_test "
                "transforms.userstate_test transforms.trigger_test transforms.window_test transforms.sideinputs_test "
                "transforms.stats_test transforms.create_test transforms.core_test transforms.dofn_lifecycle_test "
                "transforms.combinefn_lifecycle_test transforms.deduplicate_test transforms.resources_test "
                "testing.util_test typehints.typed_pipeline_test runners.common_test metrics.metric_test"
            ),
            flags=ONE_BUNDLE,
        ),
        "io": Suite(
            _beam(
                "io.textio_test io.fileio_test io.tfrecordio_test io.parquetio_test io.avroio_test "
                "io.filebasedsource_test io.sources_test io.iobase_test io.concat_source_test"
            ),
            flags=ONE_BUNDLE,
        ),
        "ml": Suite(
            _beam("ml.inference.base_test"),
            keyword="RunInferenceBaseTest and not streaming and not side and not watch",
            omitted="streaming, side, watch: models that change while an unbounded pipeline runs",
            flags=ONE_BUNDLE,
        ),
        "portable": Suite(
            ("tests.conformance.rebased_portable",),
            keyword="not et_timer_with_no",
            omitted="the other classes of portable_runner_test test Beam's job service, its environments and its "
            f"command line, or repeat these tests with them. {_TIMERS}",
        ),
    }
)
