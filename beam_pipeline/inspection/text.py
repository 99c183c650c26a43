"""Reports as text: a block per data set, colours on a terminal alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from beam_pipeline.inspection.report import Camera, DatasetReport, Notice, Stream
from transforms.sources.lerobot_columns import DEFAULTS

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_LABEL = 14
_SHOWN_STREAMS = 24
_SHOWN_INSTRUCTIONS = 5


def print_reports(console: Console, reports: Sequence[DatasetReport]) -> None:
    """Every report, then the totals."""
    for report in reports:
        for line in block(report):
            console.print(line, soft_wrap=True)
    console.print(Text(totals(reports)), soft_wrap=True)


def totals(reports: Sequence[DatasetReport]) -> str:
    """How many data sets and notices of each severity there are."""
    counts = Counter(notice.severity for report in reports for notice in report.notices)
    sets = sum(report.format != "unknown" for report in reports)
    parts = [_count(sets, "data set"), *(_count(counts[s], s) for s in ("error", "warning", "note"))]
    return ", ".join(parts) + ("; docs/inspect.md lists the codes" if counts else "")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def block(report: DatasetReport) -> Iterator[Text]:
    """The lines of one data set."""
    yield Text(report.path, style="bold")
    for label, value in facts(report):
        yield Text(f"  {label:{_LABEL}}{value}")
    for notice in report.notices:
        yield from _notice(notice)
    yield Text("")


def facts(report: DatasetReport) -> Iterator[tuple[str, str]]:
    """Label and text of all that is known."""
    if report.format == "unknown":
        return
    about = [report.format, report.version, f"robot {report.robot}" if report.robot else ""]
    yield "format", ", ".join(part for part in about if part)
    splits = ", ".join(f"{name} {count:,}" for name, count in report.splits.items())
    listed = f"{report.episodes_listed:,} named, {report.episodes_present:,} on disk"
    if report.episodes_listed == report.episodes_present:
        listed = f"{report.episodes_listed:,}"
    yield "episodes", listed + (f" ({splits})" if splits else "") + f" in {_count(report.files, 'file')}"
    if report.steps is not None or report.duration_s is not None:
        steps = [] if report.steps is None else [f"{report.steps:,}"]
        yield "steps", ", ".join([*steps, *_duration(report)])
    for label, lines in (("streams", _streams(report)), ("cameras", map(_camera, report.cameras))):
        for at, line in enumerate(lines):
            yield "" if at else label, line
    for at, instruction in enumerate(report.instructions[:_SHOWN_INSTRUCTIONS]):
        times = "" if instruction.episodes is None else f"  ({_count(instruction.episodes, 'episode')})"
        yield "" if at else "instructions", f'"{instruction.text}"{times}'
    if report.n_instructions > _SHOWN_INSTRUCTIONS:
        yield "", f"and {report.n_instructions - _SHOWN_INSTRUCTIONS:,} more"


def _duration(report: DatasetReport) -> Iterator[str]:
    if report.duration_s is not None:
        seconds = report.duration_s
        shown = f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 3600:.2f} h"
        yield shown + (f" at {report.rate_hz:g} Hz" if report.rate_hz else "")


def _streams(report: DatasetReport) -> Iterator[str]:
    shown = [stream for stream in report.streams if stream.name not in DEFAULTS]
    for stream in shown[:_SHOWN_STREAMS]:
        yield stream_text(stream)
    if len(shown) > _SHOWN_STREAMS:
        yield f"and {len(shown) - _SHOWN_STREAMS:,} more (--json lists all)"


def stream_text(stream: Stream) -> str:
    """`observation.state  float32[26]  30 Hz`."""
    sizes = ",".join("?" if size is None else str(size) for size in stream.shape)
    rate = f"  {stream.rate_hz:g} Hz" if stream.rate_hz else ""
    return f"{stream.name}  {stream.dtype}{f'[{sizes}]' if sizes else ''}{rate}"


def _camera(camera: Camera) -> str:
    size = f"{camera.width}x{camera.height}" if camera.width and camera.height else "size unknown"
    rate = f"  {camera.rate_hz:.4g} Hz" if camera.rate_hz else ""
    files = _count(camera.files, "file") if camera.files or camera.files_absent else "inside the records"
    read = f" ({camera.files_read} read)" if camera.files_read < camera.files else ""
    absent = f", {camera.files_absent:,} absent" if camera.files_absent else ""
    return f"{camera.name}  {camera.codec or 'codec unknown'}  {size}{rate}  {files}{read}{absent}"


def _notice(notice: Notice) -> Iterator[Text]:
    line = Text("  ")
    line.append(f"{notice.severity:8}", style=_COLOURS[notice.severity])
    times = f"  (x{notice.count:,})" if notice.count > 1 else ""
    line.append(f"{notice.code}  {notice.meaning}{times}")
    yield line
    for example in notice.examples:
        yield Text(f"          {example}")
    yield Text(f"          -> {notice.remedy}", style="dim")
