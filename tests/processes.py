"""Which processes run, read from /proc; one that ends while it is looked at is one that does not run."""

from __future__ import annotations

from pathlib import Path


def parent_of(pid: int) -> int:
    """The process that started another, or that has taken it over."""
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])


def command_of(pid: int) -> str:
    """A process's arguments in one line, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def descendants(ancestor: int) -> list[int]:
    """The processes that a process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            children.setdefault(parent_of(int(entry.name)), []).append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [ancestor]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]
