"""Every key of the YAML file as Markdown: `python -m beam_pipeline.reference > docs/configuration.md`."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union

from beam_pipeline.config import PipelineConfig
from transforms.select import DEFAULT_RULES

_HEAD = """# Configuration

One YAML file describes a job. `${VAR}` and `${VAR:-default}` are expanded in text, relative paths are relative to the
file, an unknown key or a wrong type is an error that names the key, the line and the nearest known key. Units are in
the names of the keys. Written by `python -m beam_pipeline.reference`; the first table is the file's top level.
"""


def type_text(kind: Any) -> str:
    """A field's type as a user writes it in YAML."""
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if a is type(None) else type_text(a) for a in arguments)
    if origin is Literal:
        return " \\| ".join(str(a) for a in arguments)
    if origin is tuple:
        return f"list of {type_text(arguments[0])}"
    if origin in (dict, Mapping):
        return f"name: {type_text(arguments[1])}"
    if dataclasses.is_dataclass(kind):
        name = getattr(kind, "__name__", "")
        return f"[{name}](#{name.lower()})"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}[kind]


def default_text(field: dataclasses.Field[Any]) -> str:
    """A field's default as a user would write it; `required` where there is none."""
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if dataclasses.is_dataclass(value):
        return ""
    if value is None:
        return "null"
    if isinstance(value, tuple):
        return "[" + ", ".join(str(item) for item in value) + "]" if len(value) < 8 else f"{len(value)} entries"
    if isinstance(value, Mapping):
        return "{}" if not value else f"{len(value)} entries"
    return str(value).lower() if isinstance(value, bool) else f"{value}" or '""'


def inner_types(kind: Any) -> Iterator[Any]:
    """The dataclasses that a type mentions."""
    if dataclasses.is_dataclass(kind):
        yield kind
    for argument in typing.get_args(kind):
        if not isinstance(argument, str):
            yield from inner_types(argument)


def sections(root: Any) -> list[Any]:
    """The dataclasses reachable from the root, each once, in the order of the file."""
    found: list[Any] = []
    waiting = [root]
    while waiting:
        kind = waiting.pop(0)
        if kind in found:
            continue
        found.append(kind)
        hints = typing.get_type_hints(kind)
        waiting += [inner for f in dataclasses.fields(kind) if f.init for inner in inner_types(hints[f.name])]
    return found


def section(kind: Any) -> Iterator[str]:
    """One dataclass as a heading, its docstring and a table of keys."""
    yield f"## {kind.__name__}\n"
    for paragraph in inspect.cleandoc(kind.__doc__ or "").split("\n\n"):
        yield " ".join(line.strip() for line in paragraph.splitlines()) + "\n"
    yield "| key | type | default |\n|---|---|---|"
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.init:
            default = default_text(field).replace("|", "\\|")
            yield f"| `{field.name}` | {type_text(hints[field.name])} | {f'`{default}`' if default else ''} |"
    yield ""


def render() -> str:
    """The whole page."""
    lines = [_HEAD]
    for kind in sections(PipelineConfig):
        lines += section(kind)
    lines += [
        "## Default rules\n",
        "A rule under `select.rules` replaces the default of its check; `null` removes it.\n",
    ]
    lines += ["| check | rule |\n|---|---|"]
    for check, rule in sorted(DEFAULT_RULES.items()):
        bounds = [f"{name} {bound:g}" for name, bound in (("min", rule.min), ("max", rule.max)) if bound is not None]
        lines.append(f"| `{check}` | {', '.join(bounds)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(render(), end="")
