"""After the run, in the launcher: files move into the output, and a manifest commits them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from beam_pipeline.gates import Gate, GateFailure, GateParams, check_gates
from beam_pipeline.output_folder import (
    MANIFESTS,
    NEWEST,
    SUMMARY,
    Manifest,
    Output,
    OutputError,
    open_output,
)
from beam_pipeline.summary import RunSummary
from transforms.coders import to_json
from transforms.output_files import (
    CLUSTERS,
    EPISODES,
    EVIDENCE,
    INCOMPLETE,
    LEDGER,
    OUT,
    TRANSITIONS,
    VIDEOS,
    PartReport,
)

__all__ = [
    "Gate",
    "GateFailure",
    "GateParams",
    "Manifest",
    "Output",
    "OutputError",
    "check_gates",
    "open_output",
    "publish",
]

_PART = re.compile(r"part-\d{5,}\.(parquet|arrow)")
_VIDEO = re.compile(r"[0-9a-f]{32}(\.\w+)?")


def publish(
    output: Output,
    files: Sequence[PartReport],
    code_version: str,
    summary: RunSummary,
    sink: str = "",
    beside: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Move finished files into the output, commit them by a manifest, then drop what it no longer names.

    A file that is not in the staging area is one that the previous manifest names too, and stays as it is. `beside` are
    files that tell of the run, by name: they are no part of what is committed.

    A run killed in between is finished by running it again: until the new manifest exists, the old one tells by its
    hashes which files it still describes. Raises OutputError where another run committed meanwhile.
    """
    number = output.previous.number + 1 if output.previous else 1
    manifest = Manifest(
        number=number,
        previous=output.previous.number if output.previous else None,
        config_hash=output.config_hash,
        code_version=code_version,
        files=tuple(sorted(files, key=lambda f: f.path)),
        measuring_hash=output.measuring_hash,
        sink=sink,
    )
    target = output.path / MANIFESTS / f"{number:08d}.json"
    if target.exists():
        raise OutputError(_committed_meanwhile(target))
    kept = set(output.previous.files) if output.previous else set()
    for file in manifest.files:
        final, staged = output.path / file.path, output.staging / OUT / file.path
        final.parent.mkdir(parents=True, exist_ok=True)
        if file not in kept or staged.exists():
            os.replace(staged, final)  # noqa: PTH105
    target.parent.mkdir(exist_ok=True)
    body = to_json(manifest) + b"\n"
    if target.exists():
        raise OutputError(_committed_meanwhile(target))
    _replace(output, f"{MANIFESTS}/{target.name}", body)
    _replace(output, NEWEST, body)
    _replace(output, SUMMARY, msgspec.json.format(to_json(summary), indent=2) + b"\n")
    for name, content in (beside or {}).items():
        _replace(output, name, content)
    _drop_superseded(output, manifest)
    shutil.rmtree(output.staging)
    return manifest


def _committed_meanwhile(target: Path) -> str:
    return f"{target} exists: another run committed to this folder meanwhile; run again, or use another --output"


def _replace(output: Output, name: str, body: bytes) -> None:
    """Write a file that is there whole or not at all, also after a crash of the machine."""
    temporary = output.staging / Path(name).name
    with temporary.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, output.path / name)  # noqa: PTH105


def _written_files(folder: Path) -> Iterator[str]:
    """Every table part and video in an output folder, whichever run put it there, also one killed while it did."""
    for table in (EPISODES, TRANSITIONS, INCOMPLETE, LEDGER, EVIDENCE):
        for path in (folder / table).glob("source=*/part-*"):
            if _PART.fullmatch(path.name):
                yield path.relative_to(folder).as_posix()
    for path in (folder / CLUSTERS).glob("part-*"):
        if _PART.fullmatch(path.name):
            yield path.relative_to(folder).as_posix()
    for path in (folder / VIDEOS).glob("*"):
        if _VIDEO.fullmatch(path.name):
            yield path.relative_to(folder).as_posix()


def _drop_superseded(output: Output, manifest: Manifest) -> None:
    named = {file.path for file in manifest.files}
    earlier = {file.path for file in output.previous.files} if output.previous else set()
    for place in sorted((earlier | set(_written_files(output.path))) - named):
        stale = output.path / place
        stale.unlink(missing_ok=True)
        if stale.parent.is_dir() and not any(stale.parent.iterdir()):
            stale.parent.rmdir()
