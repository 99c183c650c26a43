"""What a pod may do: the `restricted` Pod Security Standard, read-only roots, the few places to write in."""

from __future__ import annotations

from collections.abc import Iterator

from tests.infra.rendered import Document, Pod, Rendered

_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def security_faults(rendered: Rendered) -> list[str]:
    """What a restricted namespace would refuse, and what a read-only root would break."""
    (namespace,) = rendered.of("Namespace")
    faults = []
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        faults.append("the namespace does not enforce the restricted standard")
    for pod in rendered.pods():
        faults += _pod(pod)
        faults += _writes(pod)
    if rendered.cluster.get("authOptions", {}).get("mode") != "token":
        faults.append("Ray asks for no token: authOptions.mode must be token")
    accounts = {account["metadata"]["name"]: account for account in rendered.of("ServiceAccount")}
    for pod in rendered.pods():
        account = accounts.get(pod.spec.get("serviceAccountName", ""), {})
        if account.get("automountServiceAccountToken") != pod.is_head:
            faults.append(f"{pod.name}: only the head, whose autoscaler asks the API server, has a token for it")
    return faults


def _pod(pod: Pod) -> Iterator[str]:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, restricted."""
    context = pod.spec.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield f"{pod.name} may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{pod.name} has no seccomp profile"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field):
            yield f"{pod.name} asks for {field}"
    for volume in pod.spec.get("volumes", []):
        for kind in set(volume) - {"name"} - _VOLUMES:
            yield f"{pod.name}: volume {volume['name']} is a {kind}"
    for container in [*pod.containers, *pod.spec.get("initContainers", [])]:
        yield from _container(f"{pod.name}/{container['name']}", container.get("securityContext", {}))


def _container(name: str, context: Document) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{name} may gain privileges"
    if context.get("capabilities", {}).get("drop") != ["ALL"] or context["capabilities"].get("add"):
        yield f"{name} keeps capabilities"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write in its root"


def _writes(pod: Pod) -> Iterator[str]:
    """Ray writes its sessions in /tmp, and spills; both on disk."""
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", [])}
    for container in [*pod.containers, *pod.spec.get("initContainers", [])]:
        places = {m["mountPath"]: volumes.get(m["name"], {}) for m in container.get("volumeMounts", [])}
        needed = ["/tmp"]
        if pod.is_ray_node and container is pod.containers[0]:
            needed.append(pod.group.get("rayStartParams", {}).get("object-spilling-directory", "no spill folder"))
        for path in needed:
            on_disk = "emptyDir" in places.get(path, {}) and "medium" not in places[path]["emptyDir"]
            if not on_disk:
                yield f"{pod.name}/{container['name']} has no emptyDir on disk at {path}"
