"""What one manifest says about another: names, selectors, mounts, ports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.infra.rendered import Document, Pod, Rendered

CLUSTER_KINDS = {"Namespace"}
OTHER_NAMESPACES = {"kube-system", "kuberay-system", "monitoring", "airflow"}
"""What docs/kubernetes.md says must be there: DNS, the operator, Prometheus with its push gateway, Airflow."""
_ADDED_BY_KUBERAY = {"shared-mem"}
_RAY_PORTS = {8265, 8080, 44217, 44227}
"""Ray's dashboard and nodes' metrics, the autoscaler's and the dashboard's metrics."""


def reference_faults(rendered: Rendered) -> list[str]:
    """Names that name nothing, and selectors that select nothing."""
    return [
        *_namespaces(rendered),
        *_accounts(rendered),
        *(fault for pod in rendered.pods() for fault in _mounts(pod, rendered)),
        *_network(rendered),
        *_disruption(rendered),
    ]


def _namespaces(rendered: Rendered) -> Iterator[str]:
    (namespace,) = rendered.names("Namespace")
    for document in rendered.documents:
        given = document["metadata"].get("namespace")
        if document["kind"] not in CLUSTER_KINDS and given != namespace:
            yield f"{document['kind']} {document['metadata']['name']} is in namespace {given}, not in {namespace}"


def _accounts(rendered: Rendered) -> Iterator[str]:
    accounts = rendered.names("ServiceAccount")
    used = {pod.name: pod.spec.get("serviceAccountName") for pod in rendered.pods()}
    for pod, account in used.items():
        if account not in accounts:
            yield f"{pod} runs as ServiceAccount {account}; there are {sorted(accounts)}"
    for account in accounts - set(used.values()):
        yield f"ServiceAccount {account} is used by no pod"
    for binding in rendered.of("RoleBinding"):
        if binding["roleRef"]["name"] not in rendered.names(binding["roleRef"]["kind"]):
            yield f"RoleBinding {binding['metadata']['name']} names no Role: {binding['roleRef']['name']}"
        for subject in binding["subjects"]:
            if subject.get("namespace") not in OTHER_NAMESPACES:
                yield f"RoleBinding {binding['metadata']['name']}: no namespace {subject.get('namespace')} is expected"
    for role in rendered.of("Role"):
        for rule in role["rules"]:
            known = {"ray.io": {"rayjobs", "rayclusters"}, "": {"pods", "pods/log"}}
            for group in rule["apiGroups"]:
                for resource in set(rule["resources"]) - known.get(group, set()):
                    yield f"Role {role['metadata']['name']}: there is no {resource} in the group {group!r}"


def _mounts(pod: Pod, rendered: Rendered) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    mounted: set[str] = set()
    for container in [*pod.containers, *pod.spec.get("initContainers", [])]:
        mounts = container.get("volumeMounts", [])
        paths = [mount["mountPath"] for mount in mounts]
        if len(paths) != len(set(paths)):
            yield f"{pod.name}/{container['name']} mounts two volumes at one path: {paths}"
        names = {mount["name"] for mount in mounts}
        mounted |= names
        for name in names - set(volumes):
            yield f"{pod.name}/{container['name']} mounts {name}, which is no volume of the pod"
    for name in set(volumes) - mounted:
        yield f"{pod.name} has the volume {name}, which no container mounts"
    for volume in volumes.values():
        claim = volume.get("persistentVolumeClaim", {}).get("claimName")
        config = volume.get("configMap", {}).get("name")
        if claim and claim not in rendered.names("PersistentVolumeClaim"):
            yield f"{pod.name}: there is no PersistentVolumeClaim {claim}"
        if config and config not in rendered.names("ConfigMap"):
            yield f"{pod.name}: there is no ConfigMap {config}"


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector of equalities holds for labels; an empty one holds for all."""
    assert set(selector) <= {"matchLabels"}, f"a selector that is not understood here: {selector}"
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


def _network(rendered: Rendered) -> Iterator[str]:
    pods = list(rendered.pods())
    for policy in rendered.of("NetworkPolicy"):
        name, spec = policy["metadata"]["name"], policy["spec"]
        chosen = [pod for pod in pods if selects(spec["podSelector"], pod.labels)]
        if not chosen:
            yield f"NetworkPolicy {name} selects no pod: {spec['podSelector']}"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            if direction in spec and direction.capitalize() not in spec["policyTypes"]:
                yield f"NetworkPolicy {name} has {direction} rules, but policyTypes {spec['policyTypes']}"
            for rule in spec.get(direction, []):
                for peer in rule.get(peers, []):
                    yield from _peer(name, peer, pods)
                for port in rule.get("ports", []) if direction == "ingress" else ():
                    if port["port"] not in _RAY_PORTS:
                        yield f"NetworkPolicy {name}: nothing listens on port {port['port']}"
    for pod in pods:
        policies = [p["spec"] for p in rendered.of("NetworkPolicy") if selects(p["spec"]["podSelector"], pod.labels)]
        for direction in ("Ingress", "Egress"):
            if not any(direction in spec["policyTypes"] for spec in policies):
                yield f"no NetworkPolicy bounds the {direction} of {pod.name}"
    yield from _ways(rendered, pods)


def _peer(name: str, peer: Document, pods: list[Pod]) -> Iterator[str]:
    ours = "podSelector" in peer and "namespaceSelector" not in peer
    if ours and not any(selects(peer["podSelector"], pod.labels) for pod in pods):
        yield f"NetworkPolicy {name} lets pods through that are never there: {peer['podSelector']}"
    for key, value in peer.get("namespaceSelector", {}).get("matchLabels", {}).items():
        if key != "kubernetes.io/metadata.name" or value not in OTHER_NAMESPACES:
            yield f"NetworkPolicy {name} names a namespace that is not expected: {key}: {value}"


def _ways(rendered: Rendered, pods: list[Pod]) -> Iterator[str]:
    """The ways that a run needs, which must be open at both ends."""
    head = next(pod for pod in pods if pod.is_head)
    submitter = next(pod for pod in pods if not pod.is_ray_node)
    workers = [pod for pod in pods if pod.is_ray_node and not pod.is_head]
    needed: list[tuple[Pod, Pod, int]] = [(submitter, head, 8265)]
    needed += [(one, other, 6379) for one in workers for other in (head, *workers)]
    for source, target, port in needed:
        for pod, direction, peers, peer in ((source, "egress", "to", target), (target, "ingress", "from", source)):
            if not _open(rendered, pod, direction, peers, peer, port):
                yield f"no NetworkPolicy opens {direction} of {pod.name} for {peer.name} on port {port}"
    for source in ("kuberay-system", "monitoring"):
        port = 8265 if source == "kuberay-system" else 8080
        if not _open(rendered, head, "ingress", "from", source, port):
            yield f"no NetworkPolicy lets {source} reach port {port} of the head"


def _open(rendered: Rendered, pod: Pod, direction: str, peers: str, peer: Pod | str, port: int) -> bool:
    for policy in rendered.of("NetworkPolicy"):
        if not selects(policy["spec"]["podSelector"], pod.labels):
            continue
        for rule in policy["spec"].get(direction, []):
            ports = [entry["port"] for entry in rule.get("ports", [])]
            if (not ports or port in ports) and _among(rule.get(peers), peer):
                return True
    return False


def _among(peers: list[Any] | None, peer: Pod | str) -> bool:
    if peers is None:
        return True
    if isinstance(peer, str):
        return any(selects(p.get("namespaceSelector", {"matchLabels": {"": ""}}), _named(peer)) for p in peers)
    return any(
        "podSelector" in p and "namespaceSelector" not in p and selects(p["podSelector"], peer.labels) for p in peers
    )


def _named(namespace: str) -> dict[str, str]:
    return {"kubernetes.io/metadata.name": namespace}


def _disruption(rendered: Rendered) -> Iterator[str]:
    for budget in rendered.of("PodDisruptionBudget"):
        chosen = [pod.name for pod in rendered.pods() if selects(budget["spec"]["selector"], pod.labels)]
        if chosen != ["head headgroup"]:
            yield f"PodDisruptionBudget {budget['metadata']['name']} guards {chosen or 'nothing'}, not the head alone"
        if "minAvailable" not in budget["spec"] or not isinstance(budget["spec"]["minAvailable"], int):
            yield "a PodDisruptionBudget of pods without a scale takes minAvailable as a number alone"
