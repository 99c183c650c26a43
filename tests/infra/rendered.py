"""The manifests of infra/kuberay as kubectl renders them, and the pods that KubeRay makes of them."""

from __future__ import annotations

import copy
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "infra" / "kuberay"
OVERLAYS = ("dev", "prod")
Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod of a run. `group`: the head's or worker group's spec, {} for the submitter; `most`: how many at most."""

    name: str
    labels: dict[str, str]
    spec: Document
    group: Document
    most: int

    @property
    def containers(self) -> list[Document]:
        return self.spec["containers"]

    @property
    def is_ray_node(self) -> bool:
        return bool(self.group)

    @property
    def is_head(self) -> bool:
        return self.labels.get("ray.io/node-type") == "head"


@dataclass(frozen=True)
class Rendered:
    """All documents of an overlay: what stands in the namespace, and one run."""

    documents: tuple[Document, ...]

    def of(self, kind: str) -> list[Document]:
        return [document for document in self.documents if document["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {document["metadata"]["name"] for document in self.of(kind)}

    @property
    def job(self) -> Document:
        return self.of("RayJob")[0]

    @property
    def cluster(self) -> Document:
        return self.job["spec"]["rayClusterSpec"]

    @property
    def workers(self) -> list[Document]:
        return self.cluster["workerGroupSpecs"]

    def copied(self) -> Rendered:
        return Rendered(copy.deepcopy(self.documents))

    def pods(self) -> Iterator[Pod]:
        """The pods with what KubeRay 1.7 adds (controllers/ray/common/pod.go): labels, containers, /dev/shm."""
        submitter = copy.deepcopy(self.job["spec"]["submitterPodTemplate"])
        yield Pod("submitter", submitter.get("metadata", {}).get("labels", {}), submitter["spec"], {}, 1)
        yield self._ray_node(self.cluster["headGroupSpec"], "head", "headgroup", 1)
        for group in self.workers:
            yield self._ray_node(group, "worker", group.get("groupName", ""), group.get("maxReplicas", 1))

    def _ray_node(self, group: Document, node_type: str, name: str, most: int) -> Pod:
        template = copy.deepcopy(group["template"])
        spec = template["spec"]
        ray = spec["containers"][0]
        if node_type == "worker":
            waiting = {key: ray[key] for key in ("image", "securityContext", "volumeMounts") if key in ray}
            resources = {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"cpu": "200m", "memory": "256Mi"}}
            spec["initContainers"] = [{"name": "wait-gcs-ready", "resources": resources, **waiting}]
        elif self.cluster.get("enableInTreeAutoscaling"):
            options = self.cluster.get("autoscalerOptions", {})
            given = {key: options[key] for key in ("resources", "securityContext", "volumeMounts") if key in options}
            spec["containers"].append({"name": "autoscaler", "image": ray["image"], **given})
        ray.setdefault("volumeMounts", []).append({"name": "shared-mem", "mountPath": "/dev/shm"})
        shared = {"name": "shared-mem", "emptyDir": {"medium": "Memory"}}
        spec["volumes"] = [*spec.get("volumes", []), shared]
        labels = {
            **template.get("metadata", {}).get("labels", {}),
            "ray.io/is-ray-node": "yes",
            "ray.io/node-type": node_type,
            "ray.io/group": name,
        }
        return Pod(f"{node_type} {name}", labels, spec, group, most)


def kubectl() -> Path:
    """The pinned kubectl; the test is skipped where `make .kubectl/kubectl` has not fetched it."""
    path = Path(os.environ.get("KUBECTL", ROOT / ".kubectl" / "kubectl"))
    if not path.exists():
        pytest.skip(f"{path} is absent: `make .kubectl/kubectl` fetches it, KUBECTL names another")
    return path


@cache
def _rendered(overlay: str, program: Path) -> Rendered:
    documents: list[Document] = []
    for part in ("namespace", "job"):
        folder = KUBERAY / "overlays" / overlay / part
        run = subprocess.run([program, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        documents += yaml.load_all(run.stdout, yaml.CSafeLoader)
    return Rendered(tuple(documents))


def render(overlay: str) -> Rendered:
    """An overlay's documents, to be changed at will."""
    return _rendered(overlay, kubectl()).copied()
