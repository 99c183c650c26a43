"""Whether sizes fit each other: requests, what Ray is told, and the quota."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.infra.quantities import quantity
from tests.infra.rendered import Document, Pod, Rendered

GPU = "nvidia.com/gpu"
_RAY_ITSELF = 1.5 * 2**30
"""Raylet, agents and Python's own memory on a node, bytes."""


def sizing_faults(rendered: Rendered) -> list[str]:
    """Sizes that contradict each other, or are no sizes."""
    try:
        return [*(fault for pod in rendered.pods() for fault in _pod(pod)), *_quota(rendered)]
    except ValueError as error:
        return [str(error)]


def _pod(pod: Pod) -> Iterator[str]:
    ephemeral = 0.0
    for container in pod.containers:
        name = f"{pod.name}/{container['name']}"
        requests, limits = _resources(container)
        for resource in ("cpu", "memory", "ephemeral-storage"):
            if not requests.get(resource):
                yield f"{name} requests no {resource}, which the quota asks for"
        if requests.get("memory") != limits.get("memory"):
            yield f"{name} has a memory limit other than its request"
        ephemeral += requests.get("ephemeral-storage", 0)
    disks = [v["emptyDir"] for v in pod.spec.get("volumes", []) if "emptyDir" in v and "medium" not in v["emptyDir"]]
    if sum(quantity(disk["sizeLimit"]) for disk in disks) > ephemeral:
        yield f"{pod.name}: its emptyDirs may hold more than the {ephemeral:g} bytes of disk that it requests"
    if pod.is_ray_node:
        yield from _ray(pod)


def _ray(pod: Pod) -> Iterator[str]:
    requests, limits = _resources(pod.containers[0])
    told = {name: quantity(value) for name, value in pod.group.get("resources", {}).items()}
    store = quantity(pod.group["rayStartParams"].get("object-store-memory", 0))
    if pod.is_head and told.get("CPU") != 0:
        yield "the head offers CPUs, so that workers may run beside the driver"
    if told.get("CPU", 0) > requests["cpu"]:
        yield f"{pod.name} tells Ray of {told['CPU']:g} CPUs and requests {requests['cpu']:g}"
    if told.get("GPU", 0) != limits.get(GPU, 0):
        yield f"{pod.name} tells Ray of {told.get('GPU', 0):g} GPUs and has {limits.get(GPU, 0):g}"
    if store < 75_000_000 or told.get("memory", 0) + store + _RAY_ITSELF > limits["memory"]:
        yield f"{pod.name}: Ray's memory and its object store ({store:g} bytes) do not fit {limits['memory']:g} bytes"
    if not pod.is_head and told.get("memory", 0) < 2**30:
        yield f"{pod.name} offers {told.get('memory', 0):g} bytes to workers"


def _resources(container: Document) -> tuple[dict[str, float], dict[str, float]]:
    resources = container.get("resources", {})
    requests, limits = (
        {name: quantity(value) for name, value in resources.get(part, {}).items()} for part in ("requests", "limits")
    )
    return requests, limits


def most_of_a_run(rendered: Rendered) -> dict[str, float]:
    """What all pods of a run ask for when every pool is at its most, by the quota's names."""
    total: dict[str, float] = defaultdict(float)
    for pod in rendered.pods():
        total["pods"] += pod.most
        for container in pod.containers:
            requests, limits = _resources(container)
            for name, value in {**{GPU: limits.get(GPU, 0)}, **requests}.items():
                total[f"requests.{name}"] += pod.most * value
            total["limits.memory"] += pod.most * limits["memory"]
    return total


def _quota(rendered: Rendered) -> Iterator[str]:
    for claim in rendered.of("PersistentVolumeClaim"):
        quantity(claim["spec"]["resources"]["requests"]["storage"])
    (quota,) = rendered.of("ResourceQuota")
    hard = {name: quantity(value) for name, value in quota["spec"]["hard"].items()}
    needed = {**most_of_a_run(rendered), "persistentvolumeclaims": len(rendered.of("PersistentVolumeClaim"))}
    for name in set(hard) - set(needed):
        yield f"the quota bounds {name}, which no run asks for"
    for name, value in needed.items():
        if name not in hard or not value <= hard[name] <= max(2 * value, 10):
            yield f"the quota gives {hard.get(name, 0):g} of {name}; a run at its full size takes {value:g}"
