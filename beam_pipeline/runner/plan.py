"""A pipeline translated into stages that the driver can schedule without opening any of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from beam_pipeline.runner.beam_internals import (
    beam_fn_api_pb2,
    beam_runner_api_pb2,
    bundle_processor,
    common_urns,
    proto_utils,
    translations,
)
from beam_pipeline.runner.hints import ResourceRequest, request_of
from beam_pipeline.runner.reshuffle import RESHUFFLE, expand_reshuffles, mark_reshuffles
from beam_pipeline.runner.shuffle.write import SHUFFLE_WRITE_URN, shuffle_write_payload

IMPULSE = "impulse"
_GROUP = "group:"
_NAMES = 3


@dataclass(frozen=True, slots=True)
class StageInput:
    """A main input: `kind` is impulse, stream, group (a GroupByKey) or keyed (a stateful stage's).

    A group has the coder of what is grouped, and its windowing where that is not Beam's default.
    """

    transform_id: str
    buffer: str
    kind: str
    coder_id: str
    shuffle_coder_id: str = ""
    windowing_id: str = ""


@dataclass(frozen=True, slots=True)
class StageOutput:
    """What a stage writes: a block (stream) or a sorted run (group, keyed) for `buffer`."""

    transform_id: str
    buffer: str
    kind: str


@dataclass(frozen=True, slots=True)
class SideInput:
    """A side input of a transform in a stage: the buffer it is made of, its access pattern and wire coder."""

    transform_id: str
    tag: str
    buffer: str
    access_urn: str
    coder_id: str


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One fused stage; `descriptor` is a serialized ProcessBundleDescriptor."""

    name: str
    label: str
    descriptor: bytes = field(repr=False)
    inputs: tuple[StageInput, ...]
    outputs: tuple[StageOutput, ...]
    side_inputs: tuple[SideInput, ...]
    timers: tuple[tuple[str, str, str, bool], ...]
    splittable: bool
    request: ResourceRequest
    partitions: int

    @property
    def stateful(self) -> bool:
        return any(i.kind == "keyed" for i in self.inputs)


def plan_stages(
    pipeline: beam_runner_api_pb2.Pipeline, partitions: int, drain: bool = False, keep_reshuffles: bool = False
) -> tuple[StagePlan, ...]:
    """The pipeline's stages in topological order; `partitions` is the number of key ranges of every shuffle.

    `keep_reshuffles`: shuffle them as Beam expands them, instead of dealing blocks out anew.
    """
    proto = copy.deepcopy(pipeline)
    if not keep_reshuffles:
        mark_reshuffles(proto)
    context, stages = translations.create_and_optimize_stages(
        proto,
        phases=[
            translations.annotate_downstream_side_inputs,
            translations.annotate_stateful_dofns_as_roots,
            translations.fix_side_input_pcoll_coders,
            translations.pack_combiners,
            translations.lift_combiners,
            translations.expand_sdf,
            translations.expand_gbk,
            expand_reshuffles,
            translations.sink_flattens,
            translations.greedily_fuse,
            translations.read_to_impulse,
            translations.impulse_to_input,
            translations.sort_stages,
            translations.add_impulse_to_dangling_transforms,
            translations.setup_timer_mapping,
            translations.populate_data_channel_coders,
        ],
        known_runner_urns=frozenset(
            [common_urns.primitives.FLATTEN.urn, common_urns.primitives.GROUP_BY_KEY.urn, RESHUFFLE]
        ),
        use_state_iterables=True,
        is_drain=drain,
    )
    return _Planner(context, stages, partitions).plan()


class _Planner:
    def __init__(self, context: Any, stages: Iterable[Any], partitions: int) -> None:
        self._context = context
        self._components = context.components
        self._stages = list(stages)
        self._partitions = partitions
        self._keyed = {
            _payload(t)
            for stage in self._stages
            if stage.is_stateful()
            for t in stage.transforms
            if t.spec.urn == bundle_processor.DATA_INPUT_URN and _payload(t) != IMPULSE
        }
        self._streamed = {
            _payload(t)
            for stage in self._stages
            if not stage.is_stateful()
            for t in stage.transforms
            if t.spec.urn == bundle_processor.DATA_INPUT_URN
        } | {translations.create_buffer_id(pcoll).decode() for stage in self._stages for pcoll in stage.side_inputs()}

    def plan(self) -> tuple[StagePlan, ...]:
        return tuple(self._stage(index, stage) for index, stage in enumerate(self._stages))

    def _stage(self, index: int, stage: Any) -> StagePlan:
        inputs: list[StageInput] = []
        outputs: list[StageOutput] = []
        side_inputs: list[SideInput] = []
        timers: list[tuple[str, str, str, bool]] = []
        extra: list[Any] = []
        splittable = False
        for transform in stage.transforms:
            if transform.spec.urn == bundle_processor.DATA_INPUT_URN:
                inputs.append(self._input(transform, stage.is_stateful()))
            elif transform.spec.urn == bundle_processor.DATA_OUTPUT_URN:
                written, added = self._outputs(transform)
                outputs.extend(written)
                extra.extend(added)
            elif transform.spec.urn in translations.PAR_DO_URNS:
                payload = proto_utils.parse_Bytes(transform.spec.payload, beam_runner_api_pb2.ParDoPayload)
                side_inputs.extend(self._side_inputs(transform, payload))
                for family, spec in payload.timer_family_specs.items():
                    processing = spec.time_domain == beam_runner_api_pb2.TimeDomain.PROCESSING_TIME
                    timers.append((transform.unique_name, family, spec.timer_family_coder_id, processing))
                splittable |= (
                    transform.spec.urn == common_urns.sdf_components.PROCESS_SIZED_ELEMENTS_AND_RESTRICTIONS.urn
                )
        stage.transforms.extend(extra)
        environment = self._components.environments.get(stage.environment or "")
        hints: Mapping[str, bytes] = dict(environment.resource_hints) if environment else {}
        name = f"s{index}"
        return StagePlan(
            name=name,
            label=_label(stage),
            descriptor=self._descriptor(name, stage).SerializeToString(),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            side_inputs=tuple(side_inputs),
            timers=tuple(timers),
            splittable=splittable,
            request=request_of(hints),
            partitions=self._partitions,
        )

    def _input(self, transform: Any, stateful: bool) -> StageInput:
        pcoll = translations.only_element(transform.outputs.values())
        coder_id = self._context.data_channel_coders[pcoll]
        buffer = _payload(transform)
        _set_port(transform, coder_id)
        if buffer == IMPULSE:
            return StageInput(transform.unique_name, buffer, IMPULSE, coder_id)
        if buffer.startswith(_GROUP):
            grouping = self._components.transforms[buffer.removeprefix(_GROUP)]
            before = translations.only_element(grouping.inputs.values())
            windowing_id = self._components.pcollections[before].windowing_strategy_id
            return StageInput(
                transform.unique_name,
                buffer,
                "group",
                coder_id,
                self._context.data_channel_coders[before],
                "" if is_trivial(self._components.windowing_strategies[windowing_id]) else windowing_id,
            )
        kind = "keyed" if stateful else "stream"
        return StageInput(transform.unique_name, buffer, kind, coder_id)

    def _outputs(self, transform: Any) -> tuple[list[StageOutput], list[Any]]:
        """The outputs of one write, and the transforms to add for those that are shuffled besides."""
        pcoll = translations.only_element(transform.inputs.values())
        coder_id = self._context.data_channel_coders[pcoll]
        buffer = _payload(transform)
        if buffer.startswith(_GROUP):
            windowing_id = self._components.pcollections[pcoll].windowing_strategy_id
            windowing = self._components.windowing_strategies[windowing_id]
            transform.spec.urn = SHUFFLE_WRITE_URN
            transform.spec.payload = shuffle_write_payload(coder_id, "value" if is_trivial(windowing) else "windowed")
            return [StageOutput(transform.unique_name, buffer, "group")], []
        written, added = [], []
        if buffer in self._keyed:
            keyed = beam_runner_api_pb2.PTransform(
                unique_name=transform.unique_name + "/Keyed", inputs=transform.inputs
            )
            keyed.spec.urn = SHUFFLE_WRITE_URN
            keyed.spec.payload = shuffle_write_payload(coder_id, "element")
            added.append(keyed)
            written.append(StageOutput(keyed.unique_name, buffer, "keyed"))
        _set_port(transform, coder_id)
        written.append(StageOutput(transform.unique_name, buffer, "stream" if buffer in self._streamed else "unread"))
        return written, added

    def _side_inputs(self, transform: Any, payload: Any) -> Iterator[SideInput]:
        for tag, spec in payload.side_inputs.items():
            pcoll = transform.inputs[tag]
            yield SideInput(
                transform.unique_name,
                tag,
                translations.create_buffer_id(pcoll).decode(),
                spec.access_pattern.urn,
                self._context.data_channel_coders.get(pcoll, ""),
            )

    def _descriptor(self, name: str, stage: Any) -> Any:
        components = self._components
        descriptor = beam_fn_api_pb2.ProcessBundleDescriptor(
            id=name,
            transforms={t.unique_name: t for t in stage.transforms},
            pcollections=dict(components.pcollections.items()),
            coders=dict(components.coders.items()),
            windowing_strategies=dict(components.windowing_strategies.items()),
            environments=dict(components.environments.items()),
        )
        descriptor.timer_api_service_descriptor.url = "in-process"
        return descriptor


def _label(stage: Any) -> str:
    """What the stage does, for people: the names of its transforms as their author gave them."""
    edges = (bundle_processor.DATA_INPUT_URN, bundle_processor.DATA_OUTPUT_URN, SHUFFLE_WRITE_URN)
    names = [t.unique_name for t in stage.transforms if t.spec.urn not in edges]
    names = names or [t.unique_name for t in stage.transforms]
    return " + ".join(names if len(names) <= _NAMES else [*names[: _NAMES - 1], "...", names[-1]])


def _payload(transform: Any) -> str:
    return str(transform.spec.payload.decode())


def _set_port(transform: Any, coder_id: str) -> None:
    transform.spec.payload = beam_fn_api_pb2.RemoteGrpcPort(coder_id=coder_id).SerializeToString()


def is_trivial(windowing: Any) -> bool:
    """Whether a windowing strategy is Beam's default: then a group is one element whose time is the window's end."""
    return (
        windowing.window_fn.urn == common_urns.global_windows.urn
        and windowing.trigger.WhichOneof("trigger") == "default"
        and windowing.accumulation_mode == beam_runner_api_pb2.AccumulationMode.DISCARDING
        and windowing.output_time == beam_runner_api_pb2.OutputTime.END_OF_WINDOW
        and not windowing.allowed_lateness
    )
