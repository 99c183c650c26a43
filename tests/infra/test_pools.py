"""Resource hints and worker groups: Ray's own autoscaler is given the manifests and what the runner's pools ask for."""

from __future__ import annotations

import apache_beam as beam
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingReply, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

import transforms.resources  # noqa: F401  (the hint gpus)
from beam_pipeline.runner.driver.capacity import Capacity
from beam_pipeline.runner.hints import ResourceRequest, request_of
from tests.infra.kuberay_rules import most_cpus
from tests.infra.rendered import Rendered, render


def demand(request: ResourceRequest) -> dict[str, float]:
    """What Ray asks for to start one worker of a pool, as driver/pools.py starts it on a cluster that may grow."""
    needs = Capacity(fixed=False).taken_by(request)
    # Ray's own way to ask for a kind of GPU
    return {**needs, f"accelerator_type:{request.accelerator}": 0.001} if request.accelerator else needs


def answer(rendered: Rendered, demands: list[dict[str, float]]) -> SchedulingReply:
    """What the autoscaler of an empty cluster does about demands."""
    cluster = {"metadata": {"name": "curation", "namespace": "demosift"}, "spec": rendered.cluster}
    config = AutoscalingConfig(_derive_autoscaling_config_from_ray_cr(cluster))
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(one) for one in demands]),
    )
    return ResourceDemandScheduler().schedule(request)


def launched(reply: SchedulingReply) -> dict[str, int]:
    return {launch.instance_type: launch.count for launch in reply.to_launch}


def of_hints(**hints: object) -> ResourceRequest:
    """The request of a transform's hints, through Beam."""
    return request_of(beam.Map(str).with_resource_hints(**hints).get_resource_hints())


@pytest.mark.parametrize("overlay", ["dev", "prod"])
@pytest.mark.parametrize("hints", [{}, {"cpu_count": "2"}, {"min_ram": "2GB"}])
def test_ordinary_workers_fit_every_overlay(overlay: str, hints: dict[str, object]) -> None:
    reply = answer(render(overlay), [demand(of_hints(**hints))])
    assert reply.infeasible_resource_requests == []
    assert set(launched(reply)) == {"cpu"}, "the node that is always there has room"


@pytest.mark.parametrize(
    "hints",
    [
        {"gpus": 0.25},
        {"gpus": 1},
        {"accelerator": "type:L4;count:1"},
        {"gpus": 0.5, "cpu_count": "4", "min_ram": "14GB"},
    ],
)
def test_hints_that_ask_for_a_gpu_launch_a_gpu_node(hints: dict[str, object]) -> None:
    reply = answer(render("prod"), [demand(of_hints(**hints))])
    assert reply.infeasible_resource_requests == []
    assert launched(reply) == {"cpu": 1, "l4-spot": 1}


@pytest.mark.parametrize(
    "hints", [{"cpu_count": "8"}, {"min_ram": "20GB"}, {"gpus": 2}, {"accelerator": "type:H100;count:1"}]
)
def test_hints_beyond_every_node_are_infeasible(hints: dict[str, object]) -> None:
    """The answer is able to be no; the runner tells of workers that wait."""
    assert answer(render("prod"), [demand(of_hints(**hints))]).infeasible_resource_requests


def test_dev_has_no_gpu() -> None:
    assert answer(render("dev"), [demand(of_hints(gpus=0.25))]).infeasible_resource_requests


def test_the_most_workers_of_a_pool_fill_the_cpu_nodes_and_no_gpu_node() -> None:
    rendered = render("prod")
    reply = answer(rendered, [demand(ResourceRequest())] * most_cpus(rendered))
    assert reply.infeasible_resource_requests == []
    assert launched(reply) == {"cpu": 4, "cpu-spot": 16}


def test_spot_nodes_come_first() -> None:
    rendered = render("prod")
    beyond_the_first_node = int(rendered.workers[0]["resources"]["CPU"]) + 1
    reply = answer(rendered, [demand(ResourceRequest())] * beyond_the_first_node)
    assert launched(reply) == {"cpu": 1, "cpu-spot": 1}


def test_quarters_of_a_gpu_fill_one_node() -> None:
    reply = answer(render("prod"), [demand(of_hints(gpus=0.25))] * 4)
    assert launched(reply) == {"cpu": 1, "l4-spot": 1}
