"""Frozen dataclasses as YAML for people: values that are not their default, comments above what they explain."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_WIDTH = 100


def scalar(value: object) -> str:
    """A value as YAML writes it: text plain where it can be nothing else, else in double quotes."""
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def stated(value: object) -> Mapping[str, object]:
    """Fields of a dataclass that are not their default, and those that have none."""
    found: dict[str, object] = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        held = getattr(value, field.name)
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        if held != default:
            found[field.name] = held
    return found


def flow(value: object) -> str:
    """A value on one line."""
    if dataclasses.is_dataclass(value):
        value = stated(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def block(value: object, indent: int) -> Iterator[str]:
    """The lines of a dataclass or mapping below a key: on one line each what fits, else nested."""
    pairs = stated(value) if dataclasses.is_dataclass(value) else value
    assert isinstance(pairs, Mapping)
    blanks = " " * indent
    for key, item in pairs.items():
        line = f"{blanks}{scalar(key)}: {flow(item)}"
        nested = dataclasses.is_dataclass(item) or isinstance(item, Mapping)
        if nested and len(line) > _WIDTH:
            yield f"{blanks}{scalar(key)}:"
            yield from block(item, indent + 2)
        elif isinstance(item, tuple) and len(line) > _WIDTH and dataclasses.is_dataclass(item[0]):
            yield f"{blanks}{scalar(key)}:"
            yield from (f"{blanks}  - {flow(one)}" for one in item)
        elif isinstance(item, tuple) and len(line) > _WIDTH:
            text = textwrap.wrap(flow(item), _WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False)
            yield f"{blanks}{scalar(key)}:"
            yield from (f"{blanks}  {part}" for part in text)
        else:
            yield line
