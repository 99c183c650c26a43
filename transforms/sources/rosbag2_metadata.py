"""metadata.yaml of a rosbag2 folder: which files are one recording, and how much they are said to hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from transforms.arrays import rounded
from transforms.episode import Finding

METADATA = "metadata.yaml"
_ROOT = "rosbag2_bagfile_information"
_LARGEST = 16 << 20


@dataclass(frozen=True)
class Declared:
    """What the metadata says: file names in order, messages and ns in all; None where it does not."""

    files: tuple[str, ...]
    messages: int | None
    duration_ns: int | None


def declared_files(folder: Path) -> Declared | None:
    """The metadata of a rosbag2 folder; None where there is none, or the file is another one."""
    path = folder / METADATA
    if not path.is_file() or path.stat().st_size > _LARGEST:
        return None
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    root = said.get(_ROOT) if isinstance(said, dict) else None
    names = root.get("relative_file_paths") if isinstance(root, dict) else None
    if not isinstance(names, list) or not isinstance(root, dict):
        return None
    lasts = root.get("duration")
    nanoseconds = lasts.get("nanoseconds") if isinstance(lasts, dict) else None
    count = root.get("message_count")
    return Declared(
        tuple(Path(str(name)).name for name in names),
        count if isinstance(count, int) else None,
        nanoseconds if isinstance(nanoseconds, int) else None,
    )


def lost_of(messages: int | None, duration_ns: int | None, whole: int, lasts_ns: int) -> list[Finding]:
    """Messages and seconds that a metadata.yaml declares and the files do not hold; none where it declares neither."""
    found = []
    if messages is not None and messages > whole:
        detail = f"{METADATA} says {messages} messages, {whole} are whole"
        found.append(Finding("load", "integrity.lost_messages", float(messages - whole), "messages", detail=detail))
        if duration_ns is not None and duration_ns > lasts_ns:
            detail = f"{METADATA} says {duration_ns / 1e9:.9g} s, what is whole lasts {lasts_ns / 1e9:.9g} s"
            lost = rounded((duration_ns - lasts_ns) / 1e9)
            found.append(Finding("load", "integrity.lost_s", lost, "s", detail=detail))
    return found
