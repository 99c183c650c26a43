"""Any format that the loader plans: its recordings, and what planning found, without a word on what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from beam_pipeline.inspection.report import DatasetReport, Notices
from transforms.conventions import Source
from transforms.episode import RecordingRef
from transforms.formats import FORMATS
from transforms.unreadable import Unreadable


def plan_all(source: Source, name: str, paths: Sequence[Path], notices: Notices) -> list[RecordingRef]:
    """The recordings that a format's reader plans below some paths; what it finds and cannot read is noticed."""
    refs: list[RecordingRef] = []
    for path in paths:
        try:
            refs += FORMATS[name].plan(source, path)
        except Unreadable as error:
            notices.problem(error.problem)
    notices.refs(refs)
    return refs


def splits_of(refs: Iterable[RecordingRef]) -> Mapping[str, int]:
    """Recordings by split, of those that have one."""
    return dict(sorted(Counter(ref.split for ref in refs if ref.split).items()))


def counts(name: str, paths: Sequence[Path], refs: Sequence[RecordingRef]) -> DatasetReport:
    """A report of the recordings' number, splits and files."""
    sound = [ref for ref in refs if ref.problem is None]
    return DatasetReport(
        path=str(paths[0]),
        format=name,
        files=len({ref.uri for ref in sound}),
        episodes_listed=len(refs),
        episodes_present=len(sound),
        splits=splits_of(refs),
    )
