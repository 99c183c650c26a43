"""The guessed configuration of some paths: sources, embodiments, and the YAML that says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from beam_pipeline.guessing.embodiments import Guess, guess_embodiment
from beam_pipeline.guessing.places import Place, places_of
from beam_pipeline.guessing.rates import Rate, RateGuess, bag_rate, guess_rate
from beam_pipeline.guessing.sidecar_times import guess_times
from beam_pipeline.guessing.yaml_text import block, flow
from beam_pipeline.inspection.inspect import NAME, Found, find, inspect_dataset
from beam_pipeline.inspection.report import DatasetReport, Stream
from transforms.conventions import Source, Topics
from transforms.formats import FORMATS
from transforms.source_paths import expand
from transforms.sources.ros_recording import videos_beside
from transforms.sources.ros_streams import BagStart


class NothingToCurate(Exception):
    """Paths of which no configuration can be made; the message says why and what to do."""


@dataclass(frozen=True)
class GuessedSource:
    """One source with what inspection said of it and whose robot it shows."""

    source: Source
    report: DatasetReport
    robot: Guess
    why: tuple[str, ...]
    rate: Rate | None = None


@dataclass(frozen=True)
class GuessedConfig:
    """Sources, files that no reader knows, which are left out, and one rate for all where the sources are bags."""

    sources: tuple[GuessedSource, ...]
    left_out: tuple[Path, ...]
    rate: RateGuess | None = None


def guess_config(paths: Sequence[str]) -> GuessedConfig:
    """What a configuration of these paths would be.

    Raises NothingToCurate where a path is absent, unreadable, empty, or holds nothing that a reader knows.
    """
    found = [_found(str(Path(path).absolute())) for path in paths]
    guessed: list[GuessedSource] = []
    robots: dict[str, Guess] = {}
    for place in places_of(found):
        report = inspect_dataset(Source(NAME, place.path, format=place.format), place.format, place.paths)  # type: ignore[arg-type]
        topics, rate = _of_bag(place)
        columns = report.streams if topics is None else tuple(Stream(name, "", ()) for name in topics.columns)
        robot = guess_embodiment(replace(report, streams=columns), place.name)
        while robots.setdefault(robot.name, robot).embodiment != robot.embodiment:
            robot = replace(robot, name=f"{robot.name}_of_{place.name}")
        guessed.append(_source(place, report, robot, topics, rate))
    left_out = tuple(path for one in found for path in one.unknown)
    return GuessedConfig(tuple(guessed), left_out, guess_rate({one.source.name: one.rate for one in guessed}))


def _of_bag(place: Place) -> tuple[Topics | None, Rate | None]:
    """Topics and rate by the start of the first bag; None of other formats and where it tells nothing."""
    guess: Callable[[Path], BagStart] | None = getattr(FORMATS[place.format], "guess", None)
    first = next((path for path in place.paths if path.is_file()), None)
    if guess is None or first is None:
        return None, None
    start = guess(first)
    return (None if start.topics == Topics() else start.topics), bag_rate(first, start, videos_beside(first))


def _source(
    place: Place, report: DatasetReport, robot: Guess, topics: Topics | None, rate: Rate | None
) -> GuessedSource:
    times = guess_times(report) if place.format == "video" else None
    column, unit, why = times or ("timestamp", "s", ())
    if topics is not None:
        made = ", ".join([*topics.columns, *(f"camera {camera}" for camera in topics.cameras)])
        why = (*why, f"topics: {made}, by types and names of the topics of {place.paths[0].name}")
    source = Source(
        place.name,
        place.path,
        place.format,  # type: ignore[arg-type]
        embodiment=robot.name,
        time_column=column,
        time_unit=unit,
        topics=topics,
    )
    return GuessedSource(source, report, robot, why, rate)


def _found(path: str) -> Found:
    source = Source(NAME, path)
    if "${" in path:
        raise NothingToCurate(
            f"{path}: a path with '${{' would be read as a variable; rename it, or write a configuration"
        )
    if not expand(source):
        raise NothingToCurate(f"there is nothing at {path}; correct PATH")
    found = find(source)
    if found.problems:
        raise NothingToCurate(found.problems[0].detail)
    if not found.datasets:
        held = f"no reader knows its content, such as {found.unknown[0]}" if found.unknown else "it holds no file"
        raise NothingToCurate(f"{path}: {held}; `python -m beam_pipeline inspect` says what is read")
    return found


def summary(guessed: GuessedConfig) -> Iterator[str]:
    """What was guessed, in lines for people."""
    for one in guessed.sources:
        report = one.report
        yield f"source {one.source.name}: {report.format}, {report.episodes_listed:,} recordings, {one.source.path}"
        yield from (f"  guessed     {why}" for why in (*one.why, *one.robot.guessed))
        yield from (f"  undeclared  {why}" for why in one.robot.undeclared)
        errors = sorted({notice.code for notice in report.notices if notice.severity == "error"})
        if errors:
            yield f"  inspect     {', '.join(errors)}"
    if guessed.rate is not None:
        yield f"  {'guessed     ' if guessed.rate.rate_hz else 'undeclared  '}{guessed.rate.why}"
    if guessed.left_out:
        more = f" and {len(guessed.left_out) - 1} more" if len(guessed.left_out) > 1 else ""
        yield f"left out, as no reader knows them: {guessed.left_out[0]}{more}"


def render(guessed: GuessedConfig) -> str:
    """The YAML: the same guess gives the same bytes."""
    return "\n".join(_lines(guessed)) + "\n"


def _lines(guessed: GuessedConfig) -> Iterator[str]:
    yield "# Guessed by `python -m beam_pipeline curate PATH`; docs/configuration.md lists every key."
    yield "# Correct it as needed and use it by --config, with another --output: a folder belongs to one configuration."
    yield "sources:"
    for one in guessed.sources:
        about = ", ".join(filter(None, (one.report.version, one.report.robot)))
        yield f"  # {one.report.format} by its content{f': {_one_line(about)}' if about else ''}"
        yield from (f"  # {why}" for why in one.why)
        lines = list(block(one.source, 4))
        yield "  - " + lines[0].lstrip()
        yield from lines[1:]
    if guessed.left_out:
        yield f"  # Left out, as no reader knows them: {', '.join(flow(str(path)) for path in guessed.left_out[:5])}"
    yield ""
    yield "embodiments:"
    for robot in {one.robot.name: one.robot for one in guessed.sources}.values():
        yield from (f"  # Guessed: {_one_line(why)}." for why in robot.guessed)
        yield from (f"  # Undeclared: {_one_line(why)}." for why in robot.undeclared)
        lines = list(block(robot.embodiment, 4))
        yield f"  {flow(robot.name)}:" + ("" if lines else " {}")
        yield from lines
    if guessed.rate is not None:
        yield ""
        yield f"# {'Guessed' if guessed.rate.rate_hz else 'Undeclared'}: {_one_line(guessed.rate.why)}."
        if guessed.rate.rate_hz is not None:
            yield f"temporal_alignment: {{rate_hz: {guessed.rate.rate_hz:g}}}"


def _one_line(text: str) -> str:
    """Text that cannot leave its comment."""
    return " ".join(text.split())
