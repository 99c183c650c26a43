"""What inspection found of one data set: episodes, streams, cameras, instructions, and notices with their codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from beam_pipeline.inspection.code import Severity
from beam_pipeline.inspection.codes import code_of
from transforms.episode import Finding, Problem, RecordingRef

EXAMPLES = 3


@dataclass(frozen=True)
class Stream:
    """One column of every step: `shape` per step, None where a size is not stated; `names` of its elements."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    rate_hz: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Camera:
    """One camera: what its files are, or what is declared where none is there. 0 files: images inside the records."""

    name: str
    codec: str | None
    width: int | None
    height: int | None
    rate_hz: float | None
    files: int = 0
    files_absent: int = 0
    files_read: int = 0


@dataclass(frozen=True)
class Instruction:
    """A task text and how many episodes have it; None where that is not stated."""

    text: str
    episodes: int | None


@dataclass(frozen=True)
class Notice:
    """One disagreement: `count` is in how many episodes, files or entries, `examples` the first of them."""

    code: str
    severity: Severity
    check: str
    count: int
    meaning: str
    remedy: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class DatasetReport:
    """One data set. Counts are None where headers do not tell; `steps` and `duration_s` are of what is on disk."""

    path: str
    format: str
    version: str = ""
    robot: str = ""
    files: int = 0
    episodes_listed: int = 0
    episodes_present: int = 0
    steps: int | None = None
    duration_s: float | None = None
    rate_hz: float | None = None
    splits: Mapping[str, int] = field(default_factory=dict)
    streams: tuple[Stream, ...] = ()
    cameras: tuple[Camera, ...] = ()
    instructions: tuple[Instruction, ...] = ()
    n_instructions: int = 0
    notices: tuple[Notice, ...] = ()


@dataclass
class Notices:
    """Gathers findings, problems and notices of ours by check, in the order of their first meeting."""

    _examples: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, key: str, detail: str, count: int = 1) -> None:
        """Count a check, a rule or a name of ours; the first few details are kept as examples."""
        examples = self._examples.setdefault(key, [])
        self._counts[key] = self._counts.get(key, 0) + count
        if len(examples) < EXAMPLES and detail not in examples:
            examples.append(detail)

    def findings(self, found: Iterable[Finding]) -> None:
        """Count findings of the loader."""
        for finding in found:
            self.add(finding.check, finding.detail)

    def problem(self, problem: Problem, count: int = 1) -> None:
        """Count what could not be planned or read."""
        self.add(problem.rule, problem.detail, count)

    def refs(self, refs: Iterable[RecordingRef]) -> None:
        """Count the problems of planned recordings, and each finding once however many recordings share it."""
        seen: set[tuple[str, str]] = set()
        for ref in refs:
            if ref.problem is not None:
                self.problem(ref.problem)
            new = [f for f in ref.findings if (f.check, f.detail) not in seen]
            seen |= {(f.check, f.detail) for f in new}
            self.findings(new)

    def made(self) -> tuple[Notice, ...]:
        """All that was gathered, by code."""
        made = []
        for key, examples in self._examples.items():
            code = code_of(key)
            count = self._counts[key]
            notice = Notice(code.code, code.severity, key, count, code.meaning, code.remedy, tuple(examples))
            made.append(notice)
        return tuple(sorted(made, key=lambda n: (n.code, n.check)))


def counted(texts: Mapping[str, int], limit: int = 20) -> tuple[Instruction, ...]:
    """The most frequent instructions, ties by text."""
    ordered = sorted(texts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Instruction(text, count) for text, count in ordered[:limit])
