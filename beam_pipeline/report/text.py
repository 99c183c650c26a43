"""How values are written on the page: short, and with nothing in a text that could act on the page or hide in it."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

from markupsafe import Markup

from beam_pipeline.report.charts import number

__all__ = ["data_uri", "duration", "instant", "number", "percent", "seconds", "shorten", "visible"]

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufdd0-\ufdef\ufffe\uffff]"
)
"""Control characters, and those that turn the direction of what follows: a file name could read as another."""
LONGEST = 300


def visible(value: object) -> object:
    """A text with what cannot be seen written out (`\\u202e`); markup of the templates and numbers as they are."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return "" if value is None else value
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def shorten(value: object, longest: int = LONGEST) -> str:
    """A text of at most `longest` characters, its middle left out."""
    text = "" if value is None else str(value)
    if len(text) <= longest:
        return text
    kept = (longest - 20) // 2
    return f"{text[:kept]} [... {len(text) - 2 * kept} characters ...] {text[-kept:]}"


def percent(part: float, whole: float) -> str:
    """A share in per cent: never 0 or 100 for what is not."""
    if not whole:
        return "-"
    share = 100.0 * part / whole
    if 0 < share < 0.1:
        return "< 0.1 %"
    if 99.9 < share < 100:
        return "> 99.9 %"
    return f"{share:.0f} %" if share in (0.0, 100.0) else f"{share:.1f} %"


def duration(seconds: float) -> str:
    """A length of time for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def instant(iso: str) -> str:
    """A time in ISO 8601 to the second, in UTC; as it is where it is none."""
    try:
        return datetime.fromisoformat(iso).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return iso


def seconds(start_ns: object, end_ns: object) -> float | None:
    """The length of an interval in s; None where an end is unknown."""
    if isinstance(start_ns, int) and isinstance(end_ns, int):
        return (end_ns - start_ns) / 1e9
    return None


def data_uri(picture: bytes) -> str:
    """A JPEG inside the page."""
    return "data:image/jpeg;base64," + base64.b64encode(picture).decode()
