"""Manifests held to schemas: KubeRay's custom resource definitions, and Kubernetes' own kinds."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.infra.rendered import ROOT, Document, Rendered

KUBERNETES = "1.34"
_OPEN = "x-kubernetes-preserve-unknown-fields"


def schema_folder() -> Path:
    """Folder of KubeRay's definitions; the test is skipped where there is none."""
    folder = Path(os.environ.get("CRD_SCHEMAS", ROOT.parent / "shared" / "schemas")) / "kuberay"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: CRD_SCHEMAS names the folder with KubeRay's custom resource definitions")
    return folder


@cache
def _structural(folder: Path, kind: str, version: str) -> Document:
    definition = yaml.load((folder / f"ray.io_{kind.lower()}s.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    (served,) = (v for v in definition["spec"]["versions"] if v["name"] == version and v["served"])
    schema: Document = served["schema"]["openAPIV3Schema"]
    # an API server checks the metadata itself
    metadata = schema["properties"].pop("metadata")
    _close(schema)
    schema["properties"]["metadata"] = metadata
    return schema


def _close(schema: Any) -> None:
    """Refuse what an API server drops: fields that an object does not declare."""
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        is_object = schema.get("type") == "object" and not schema.get(_OPEN)
        if is_object and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part)


def _with_defaults(schema: Document, value: Any) -> Any:
    """The value as the API server completes it before it is checked."""
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        for name, field in fields.items():
            if name not in value and "default" in field:
                value[name] = copy.deepcopy(field["default"])
        others = schema.get("additionalProperties")
        for name, part in value.items():
            inner = fields.get(name, others if isinstance(others, dict) else {})
            value[name] = _with_defaults(inner, part)
    elif isinstance(value, list):
        return [_with_defaults(schema.get("items", {}), part) for part in value]
    return value


def _repeated(schema: Document, value: Any, where: str) -> Iterator[str]:
    """List entries that share the keys by which an API server tells them apart."""
    if isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        seen: set[tuple[Any, ...]] = set()
        for number, part in enumerate(value):
            identity = tuple(part.get(key) for key in keys) if isinstance(part, dict) else ()
            if keys and identity in seen:
                yield f"{where}: {identity} is there twice"
            seen.add(identity)
            yield from _repeated(schema.get("items", {}), part, f"{where}[{number}]")
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _repeated(schema.get("properties", {}).get(name, {}), part, f"{where}.{name}")


def custom_resource_faults(document: Document) -> list[str]:
    """What KubeRay's definition of the kind refuses in a document, after its defaults are applied."""
    version = document["apiVersion"].removeprefix("ray.io/")
    schema = _structural(schema_folder(), document["kind"], version)
    completed = _with_defaults(schema, copy.deepcopy(document))
    errors = jsonschema.Draft202012Validator(schema).iter_errors(completed)
    faults = [f"{document['kind']}.{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]
    metadata = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": document["metadata"]}
    return faults + core_faults(metadata) + list(_repeated(schema, completed, document["kind"]))


def core_faults(document: Document) -> list[str]:
    """What Kubernetes' own schema refuses in a document, unknown fields included."""
    try:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        place = ".".join(map(str, error.absolute_path))
        return [f"{document['kind']} {document['metadata'].get('name')}.{place}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [str(error.message)]
    return []


def schema_faults(rendered: Rendered) -> list[str]:
    """Faults of all documents, and of the pods that come of them."""
    faults: list[str] = []
    for document in rendered.documents:
        custom = document["apiVersion"].startswith("ray.io/")
        faults += custom_resource_faults(document) if custom else core_faults(document)
    for pod in rendered.pods():
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "labels": pod.labels}, "spec": pod.spec}
        faults += [f"{pod.name}: {fault}" for fault in core_faults(whole)]
    return faults
