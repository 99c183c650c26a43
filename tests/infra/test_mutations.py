"""Twenty slips of a hand in the production manifests, each of which must be caught, and by what it breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.infra.kuberay_rules import kuberay_faults
from tests.infra.references import reference_faults
from tests.infra.rendered import Document, Rendered, render
from tests.infra.schemas import schema_faults
from tests.infra.security import security_faults
from tests.infra.sizing import sizing_faults

CHECKS = (schema_faults, reference_faults, security_faults, sizing_faults, kuberay_faults)
Slip = Callable[[Rendered], object]


def _named(rendered: Rendered, kind: str, name: str) -> Document:
    return next(document for document in rendered.of(kind) if document["metadata"]["name"] == name)


def _head(rendered: Rendered) -> Document:
    return rendered.cluster["headGroupSpec"]["template"]["spec"]


def _gpu(rendered: Rendered) -> Document:
    return next(group for group in rendered.workers if group["groupName"] == "l4-spot")


def _ray(group: Document) -> Document:
    return group["template"]["spec"]["containers"][0]


def _rename(document: Document, name: str, other: str) -> None:
    document[other] = document.pop(name)


def _enter(rendered: Rendered, old: str, new: str) -> None:
    job = rendered.job["spec"]
    assert old in job["entrypoint"]
    job["entrypoint"] = job["entrypoint"].replace(old, new)


SLIPS: dict[str, tuple[Slip, str]] = {
    # fields, types, enumerations
    "a field of KubeRay": (lambda r: _rename(r.workers[0], "maxReplicas", "maxReplica"), "'maxReplica' was unexpected"),
    "a field of a pod in a RayJob": (
        lambda r: _rename(_ray(r.workers[1]), "volumeMounts", "volumeMount"),
        "'volumeMount' was unexpected",
    ),
    "a number as text": (lambda r: r.workers[0].update(maxReplicas="4"), "'4' is not of type 'integer'"),
    "a number where text is due": (lambda r: _gpu(r)["resources"].update(GPU=1), "1 is not of type 'string'"),
    "a value that the schema lists": (
        lambda r: r.cluster["authOptions"].update(mode="Token"),
        "'Token' is not one of ['disabled', 'token']",
    ),
    "a value that it does not list": (
        lambda r: r.job["spec"].update(submissionMode="K8sJobmode"),
        "submissionMode is K8sJobmode",
    ),
    "a field of a core kind": (
        lambda r: _rename(_named(r, "NetworkPolicy", "ray-head")["spec"], "policyTypes", "policyType"),
        "'policyType' was unexpected",
    ),
    "an entry that is there twice": (
        lambda r: _head(r)["volumes"].append({"name": "tmp", "emptyDir": {}}),
        "('tmp',) is there twice",
    ),
    # units
    "a unit of memory in KubeRay": (
        lambda r: _ray(r.workers[0])["resources"]["limits"].update(memory="26Gib"),
        "'26Gib' does not match",
    ),
    "a unit of memory in the quota": (
        lambda r: _named(r, "ResourceQuota", "runs")["spec"]["hard"].update({"requests.memory": "720Mi"}),
        "the quota gives 7.54975e+08 of requests.memory",
    ),
    "mebibytes for gibibytes in what Ray is told": (
        lambda r: _gpu(r)["resources"].update(memory="16Mi"),
        "worker l4-spot offers 1.67772e+07 bytes to workers",
    ),
    "an object store larger than its pod": (
        lambda r: r.workers[0]["rayStartParams"].update({"object-store-memory": "85899345920"}),
        "worker cpu: Ray's memory and its object store (8.58993e+10 bytes) do not fit",
    ),
    # one document and another
    "a label that no pod has": (
        lambda r: _named(r, "PodDisruptionBudget", "ray-head")["spec"]["selector"].update(
            matchLabels={"ray.io/nodetype": "head"}
        ),
        "PodDisruptionBudget ray-head guards nothing",
    ),
    "a label that lets nobody in": (
        lambda r: r.job["spec"]["submitterPodTemplate"]["metadata"]["labels"].update(
            {"app.kubernetes.io/component": "submiter"}
        ),
        "no NetworkPolicy opens egress of submitter for head headgroup on port 8265",
    ),
    "a service account": (
        lambda r: _gpu(r)["template"]["spec"].update(serviceAccountName="curation-workers"),
        "worker l4-spot runs as ServiceAccount curation-workers",
    ),
    "a claim": (
        lambda r: _head(r)["volumes"][2]["persistentVolumeClaim"].update(claimName="curation-date"),
        "there is no PersistentVolumeClaim curation-date",
    ),
    "a mount": (
        lambda r: _ray(r.workers[0])["volumeMounts"][1].update(name="spil"),
        "worker cpu/ray-worker mounts spil, which is no volume of the pod",
    ),
    "a role": (
        lambda r: _named(r, "RoleBinding", "curation-launcher")["roleRef"].update(name="curation-luncher"),
        "names no Role: curation-luncher",
    ),
    "a taint": (
        lambda r: _gpu(r)["template"]["spec"]["tolerations"][1].update(key="nvidia.com/gpus"),
        "worker l4-spot wants GPU nodes and does not tolerate their taint",
    ),
    # what runs
    "a flag of the command": (
        lambda r: _enter(r, "--ray_max_system_failures", "--ray_max_system_failure"),
        "the entry point has a flag that nothing knows",
    ),
    "a flag of ray start": (
        lambda r: _rename(r.workers[0]["rayStartParams"], "object-spilling-directory", "object-spill-directory"),
        "`ray start` knows no --object-spill-directory",
    ),
    "a Ray that is not the image's": (lambda r: r.cluster.update(rayVersion="2.61.0"), "rayVersion is 2.61.0"),
    "a pool that never grows to what is asked of it": (
        lambda r: r.workers[1].update(maxReplicas=61),
        "--ray_workers_max is 140; the CPU pools hold 455 workers at most",
    ),
    "a configuration that is not mounted": (
        lambda r: _enter(r, "/etc/demosift/curation.yaml", "/etc/demosift/curate.yaml"),
        "--config=/etc/demosift/curate.yaml is no file of a ConfigMap",
    ),
    "spilling into memory": (
        lambda r: _ray(r.workers[0])["volumeMounts"][1].update(mountPath="/spills"),
        "worker cpu/ray-worker has no emptyDir on disk at /spill",
    ),
    "an image": (lambda r: _ray(_gpu(r)).update(image="demosift-gpu:latest"), "runs demosift-gpu:latest"),
}


def test_nothing_is_wrong_before_a_slip() -> None:
    rendered = render("prod")
    assert [fault for check in CHECKS for fault in check(rendered)] == []


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_caught(slip: str) -> None:
    rendered = render("prod")
    change, said = SLIPS[slip]
    change(rendered)
    faults: list[str] = []
    for check in CHECKS:
        try:
            faults += check(rendered)
        except (KeyError, TypeError) as error:
            # what a schema has refused need not make sense to those who come after it
            assert faults, f"{slip}: {check.__name__} fails on {error!r}, and nothing before it has told why"
            break
    assert any(said in fault for fault in faults), faults
