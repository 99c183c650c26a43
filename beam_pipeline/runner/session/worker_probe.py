"""What a worker is asked before it has the runner, which is why these functions are pickled by value."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path


def package_digest(name: str) -> str | None:
    """Hash of a package's Python files here; None where it cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except ImportError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    root = Path(next(iter(spec.submodule_search_locations)))
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def keep_archives(archives: Mapping[str, bytes], seconds: int) -> None:
    """Store archives for Ray's runtime_env under their URIs, where they are not yet, and keep them for so long."""
    from ray._private.runtime_env import packaging

    for uri, archive in archives.items():
        # kept first, or it might go between the question and the use
        packaging.pin_runtime_env_uri(uri, expiration_s=seconds)
        if not packaging.package_exists(uri):
            packaging.upload_package_to_gcs(uri, archive)


def unmet(requirements: Sequence[str]) -> list[str]:
    """The requirements that are not satisfied here; pip's options and what has no name count as unmet."""
    from packaging.requirements import Requirement

    lacking = []
    for line in requirements:
        try:
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = importlib.metadata.version(requirement.name)
        except (ValueError, importlib.metadata.PackageNotFoundError):
            lacking.append(line)
            continue
        if requirement.url or not requirement.specifier.contains(version, prereleases=True):
            lacking.append(line)
    return lacking
