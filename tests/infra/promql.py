"""The names of metrics in a PromQL expression: what is neither a function, a keyword nor a label."""

from __future__ import annotations

import re

_WORDS = frozenset({"and", "bool", "by", "group_left", "group_right", "offset", "on", "or", "unless", "without"})
_STRINGS = re.compile(r'"[^"]*"')
_LABELS = re.compile(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGES = re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w.:])[a-zA-Z_:][\w:]*(?!\w*\s*\()")


def metric_names(expr: str) -> set[str]:
    """All names of metrics in an expression."""
    bare = _RANGES.sub(" ", _LABELS.sub(" ", _STRINGS.sub("", expr)))
    return {name for name in _NAME.findall(bare) if name not in _WORDS and not name.isdigit()}
