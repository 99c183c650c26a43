"""What the operator and Ray refuse, or take without a word, in a RayJob that its schema lets pass."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from ray.scripts.scripts import start

from beam_pipeline.__main__ import COMMANDS, CURATE
from beam_pipeline.commands.command import UsageError
from beam_pipeline.commands.job import parse
from beam_pipeline.options import CurationOptions
from beam_pipeline.runner.options import RunnerConfig
from tests.infra.rendered import ROOT, Document, Pod, Rendered

_COMMAND = ["python", "-m", "beam_pipeline"]
_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_JOB_NAME = 47
_ON_GKE = {"L4": "nvidia-l4"}
"""Ray's names of accelerators (ray.util.accelerators) and those of GKE's node pools."""


def pinned(package: str) -> str:
    """The version of a package in requirements.txt."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (version,) = (line.partition("==")[2] for line in lines if line.partition("==")[0] == package)
    return version


def image_tag() -> str:
    """The tag of our images: the project's version and Ray's."""
    (version,) = re.findall(r'version="([^"]+)"', (ROOT / "setup.py").read_text(encoding="utf-8"))
    return f"{version}-ray{pinned('ray')}"


def kuberay_faults(rendered: Rendered) -> list[str]:
    """Faults of the RayJob and its command; most are those of KubeRay 1.7 (controllers/ray/utils/validation.go)."""
    job, cluster = rendered.job["spec"], rendered.cluster
    faults = list(_images(rendered))
    if cluster.get("rayVersion") != pinned("ray"):
        faults.append(f"rayVersion is {cluster.get('rayVersion')}; requirements.txt has {pinned('ray')}")
    name = rendered.job["metadata"]["name"]
    if len(name) > _LONGEST_JOB_NAME or not _LABEL.fullmatch(name):
        faults.append(f"{name} is no name of a RayJob")
    if job["submitterPodTemplate"]["spec"].get("restartPolicy") != "Never":
        faults.append("the submitter's restartPolicy must be Never: the operator counts its failures")
    if job.get("submissionMode") != "K8sJobMode":
        faults.append(f"submissionMode is {job.get('submissionMode')}; the submitter's template is for K8sJobMode")
    if not job.get("shutdownAfterJobFinishes"):
        faults.append("shutdownAfterJobFinishes is not set: the cluster would stay")
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if not 60 <= job.get(field, 0) <= 2 * 86400:
            faults.append(f"{field} is {job.get(field)}: a run that hangs is to end")
    return [*faults, *_groups(rendered), *_entrypoint(rendered)]


def _images(rendered: Rendered) -> Iterator[str]:
    for pod in rendered.pods():
        for container in [*pod.containers, *pod.spec.get("initContainers", [])]:
            repository, _, tag = container["image"].rpartition(":")
            kind = "demosift-gpu" if pod.group.get("resources", {}).get("GPU") else "demosift"
            if tag != image_tag() or repository.rpartition("/")[2] != kind:
                yield f"{pod.name}/{container['name']} runs {container['image']}, not {kind}:{image_tag()}"


def _groups(rendered: Rendered) -> Iterator[str]:
    names = [group["groupName"] for group in rendered.workers]
    if len(set(names)) < len(names) or not all(map(_LABEL.fullmatch, names)):
        yield f"worker groups need names of their own, of small letters: {names}"
    scales = rendered.cluster.get("enableInTreeAutoscaling", False)
    if scales and rendered.cluster["autoscalerOptions"].get("version") != "v2":
        yield "priorities and restartPolicy Never need autoscalerOptions.version v2"
    flags = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    for pod in rendered.pods():
        for flag in set(pod.group.get("rayStartParams", {})) - flags:
            yield f"{pod.name}: `ray start` knows no --{flag}"
        if pod.group and not pod.containers[0]["name"].startswith("ray-"):
            yield f"{pod.name}: the first container must be Ray's"
        yield from _node(pod)
    for group in rendered.workers:
        least, now, most = (group.get(key, 0) for key in ("minReplicas", "replicas", "maxReplicas"))
        if not 0 <= least <= now <= most or not most:
            yield f"{group['groupName']}: replicas {least} <= {now} <= {most} do not hold"
        if not scales and (least != most or group.get("priority")):
            yield f"{group['groupName']} would grow, or has a priority, but nothing scales it"


def _node(pod: Pod) -> Iterator[str]:
    """A node selector picks nodes whose taints the pod tolerates, and whose GPU is the one that Ray is told of."""
    selector = pod.spec.get("nodeSelector", {})
    tolerated = {entry.get("key") for entry in pod.spec.get("tolerations", [])}
    told = pod.group.get("resources", {})
    kinds = [name.partition(":")[2] for name in told if name.startswith("accelerator_type:")]
    if "cloud.google.com/gke-spot" in selector and "cloud.google.com/gke-spot" not in tolerated:
        yield f"{pod.name} wants spot nodes and does not tolerate their taint"
    for entry in pod.spec.get("tolerations", []):
        if entry.get("key") not in ("cloud.google.com/gke-spot", "nvidia.com/gpu") or entry["effect"] != "NoSchedule":
            yield f"{pod.name} tolerates a taint that no node has: {entry}"
    for key in selector:
        if key not in ("cloud.google.com/gke-spot", "cloud.google.com/gke-accelerator"):
            yield f"{pod.name} selects nodes by {key}, which is no label of a node pool"
    wanted = [_ON_GKE.get(kind) for kind in kinds]
    if bool(told.get("GPU")) != bool(kinds) or (
        [selector.get("cloud.google.com/gke-accelerator")] != (wanted or [None])
    ):
        yield f"{pod.name}: Ray is told of {kinds or 'no GPU'}, the node selector is {selector}"
    if kinds and "nvidia.com/gpu" not in tolerated:
        yield f"{pod.name} wants GPU nodes and does not tolerate their taint"


def most_cpus(rendered: Rendered) -> int:
    """The CPUs of Ray in the pools without GPUs, all at their most."""
    pools = [group for group in rendered.workers if "GPU" not in group["resources"]]
    return sum(group["maxReplicas"] * int(group["resources"]["CPU"]) for group in pools)


def _entrypoint(rendered: Rendered) -> Iterator[str]:
    words = shlex.split(rendered.job["spec"]["entrypoint"])
    if words[:3] != _COMMAND:
        yield f"the entry point is {' '.join(words[:3])}, not {' '.join(_COMMAND)}"
        return
    command, flags = (words[3], words[4:]) if words[3] in COMMANDS else (CURATE, words[3:])
    try:
        options = parse(flags, [])
        config = RunnerConfig.from_options(options)
    except (UsageError, ValueError) as error:
        yield f"the entry point: {error}"
        return
    if options.get_all_options()["runner"] != "RayRunner" or config.address != "auto":
        yield "the entry point does not run on the cluster"
    if config.workers_max != most_cpus(rendered) or not config.workers_max_given:
        yield f"--ray_workers_max is {config.workers_max}; the CPU pools hold {most_cpus(rendered)} workers at most"
    unknown = set(PipelineOptions(flags).get_all_options(retain_unknown_options=True)) - set(options.get_all_options())
    for word in unknown:
        yield f"the entry point has a flag that nothing knows: {word}"
    own = options.view_as(CurationOptions)
    if (own.source is not None) != (command == "evidence"):
        yield f"the entry point runs {command} with --source={own.source}"
    yield from _published(rendered, command, own.publish)
    yield from _files(rendered, own)


def _published(rendered: Rendered, command: str, url: str | None) -> Iterator[str]:
    """The driver, which is on the head, writes to the bucket, by the head's cloud identity."""
    if url is None:
        return
    if command == "evidence":
        yield f"the entry point: evidence publishes nothing, and refuses --publish={url}"
    if not url.startswith("gs://"):
        yield f"--publish={url} is no bucket that the identity of the head may write"
    (head,) = (pod for pod in rendered.pods() if pod.is_head)
    account = next(a for a in rendered.of("ServiceAccount") if a["metadata"]["name"] == head.spec["serviceAccountName"])
    if not account["metadata"].get("annotations", {}).get("iam.gke.io/gcp-service-account"):
        yield f"the head is to publish to {url} and has no cloud identity"


def _files(rendered: Rendered, options: CurationOptions) -> Iterator[str]:
    """The configuration must lie where the head finds it, and the output where all nodes write it."""
    config, output = Path(options.config), Path(options.output)
    for pod in rendered.pods():
        if not pod.is_ray_node:
            continue
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        places = {m["mountPath"]: volumes.get(m["name"], {}) for m in pod.containers[0]["volumeMounts"]}
        shared = [path for path, volume in places.items() if "persistentVolumeClaim" in volume]
        if not any(output.is_relative_to(path) for path in shared):
            yield f"{pod.name} does not share the folder of --output={output}; it shares {shared}"
        if pod.is_head:
            name = places.get(str(config.parent), {}).get("configMap", {}).get("name")
            data = next((d["data"] for d in rendered.of("ConfigMap") if d["metadata"]["name"] == name), {})
            if config.name not in data:
                yield f"--config={config} is no file of a ConfigMap that the head mounts; there is {sorted(data)}"
            else:
                yield from _sources(yaml.safe_load(data[config.name]), shared)


def _sources(config: Document, shared: list[str]) -> Iterator[str]:
    for source in config["sources"]:
        if not any(Path(source["path"]).is_relative_to(path) for path in shared):
            yield f"source {source['name']} lies at {source['path']}, which the nodes do not share"
