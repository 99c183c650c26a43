"""Inspection of paths: what is found below each, and the report of each data set."""

from __future__ import annotations

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from beam_pipeline.inspection import aloha, bags, isaac, lerobot, rlds, video
from beam_pipeline.inspection.code import GENERIC_INSTRUCTION, UNKNOWN_BESIDE
from beam_pipeline.inspection.planned import counts, plan_all
from beam_pipeline.inspection.report import DatasetReport, Notices
from transforms.conventions import Source
from transforms.episode import Problem
from transforms.formats import found_in, is_whole_folder
from transforms.generic_instructions import says_nothing
from transforms.source_paths import expand
from transforms.unreadable import Unreadable

NAME = "inspect"
"""Name of the source as which a path is planned; it is in no report."""


class Inspector(Protocol):
    """One format: the report of a data set's folder, or of all files of the format below a path.

    Notices go to `notices`; `report.notices` is filled from them afterwards. May raise Unreadable.
    """

    def __call__(self, source: Source, paths: Sequence[Path], notices: Notices) -> DatasetReport: ...


INSPECTORS: Mapping[str, Inspector] = {
    "rlds": rlds.inspect,
    "lerobot": lerobot.inspect,
    "isaac_hdf5": isaac.inspect,
    "aloha_hdf5": aloha.inspect,
    "mcap": bags.inspect_mcap,
    "rosbag1": bags.inspect_rosbag1,
    "rosbag2": bags.inspect_rosbag2,
    "video": video.inspect,
}
"""A format of the loader without an inspector is reported by what its planning tells."""


@dataclass(frozen=True)
class Found:
    """What lies below one path: data sets as (format, their paths), and what belongs to none."""

    datasets: Mapping[tuple[str, Path], tuple[Path, ...]]
    problems: tuple[Problem, ...]
    unknown: tuple[Path, ...]


def find(source: Source) -> Found:
    """Data sets of a source; files of one format are one data set, a folder that is one by itself is another."""
    datasets: dict[tuple[str, Path], tuple[Path, ...]] = {}
    problems, unknown = [], []
    for path, name in found_in(source):
        if isinstance(name, Problem):
            problems.append(name)
        elif name is None:
            unknown.append(path)
        else:
            key = (name, path if is_whole_folder(path, name) else Path(source.path))
            datasets[key] = (*datasets.get(key, ()), path)
    return Found(datasets, tuple(problems), tuple(unknown))


def inspect_path(path: str) -> list[DatasetReport]:
    """Reports of all that lies below a path; what belongs to no data set is in one of its own."""
    source = Source(NAME, path)
    found = find(source)
    reports = [inspect_dataset(source, name, paths) for (name, _), paths in found.datasets.items()]
    notices = Notices()
    for problem in found.problems:
        notices.problem(problem)
    for file in found.unknown:
        if reports:
            notices.add(UNKNOWN_BESIDE, f"{file}")
        else:
            notices.add("unknown_format", f"{file}: no reader knows this content")
    if not reports and not found.problems and not found.unknown:
        here = expand(source)
        notices.add("empty" if here else "absent", f"{path} holds no file" if here else f"there is nothing at {path}")
    made = notices.made()
    return [*reports, DatasetReport(path, "unknown", notices=made)] if made else reports


def inspect_dataset(source: Source, name: str, paths: Sequence[Path]) -> DatasetReport:
    """One data set by its format's inspector."""
    notices, place = Notices(), os.path.commonpath(paths)
    try:
        inspector = INSPECTORS.get(name)
        if inspector is None:
            report = counts(name, paths, plan_all(source, name, paths, notices))
        else:
            report = inspector(source, paths, notices)
    except Unreadable as error:
        notices.problem(error.problem)
        report = DatasetReport(place, name)
    except OSError as error:
        notices.add("unreadable", f"{place}: {error.strerror or error}; check its permissions")
        report = DatasetReport(place, name)
    for instruction in report.instructions:
        if says_nothing(instruction.text):
            count = instruction.episodes or 1
            notices.add(GENERIC_INSTRUCTION, f"{instruction.text!r}", count)
    return replace(report, path=place, notices=notices.made())
