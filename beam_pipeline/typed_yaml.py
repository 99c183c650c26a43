"""YAML into frozen dataclasses, strictly: errors name the key, the line and, for a typo, the nearest known key."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml

T = TypeVar("T")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_SCALAR_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class ConfigError(Exception):
    """A configuration that cannot be used; the message starts with `FILE:LINE:`."""


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?` where some known word is close, else the list of known words."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names) or 'none'}"


@dataclasses.dataclass(frozen=True)
class TypedYaml:
    """Builds dataclasses from one YAML file; `file` is only for messages.

    Without `expand`, variables stay as they are written.
    """

    file: str
    expand: bool = True

    def load(self, text: str, kind: type[T]) -> T:
        """The document as `kind`; raises ConfigError."""
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{self.file}:{line}: not YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{self.file}:1: not YAML: {error}") from error
        if node is None:
            raise ConfigError(f"{self.file}:1: the file is empty; it needs at least `sources:`")
        return self._build(kind, node, "")

    def fail(self, node: yaml.Node, path: str, message: str) -> typing.NoReturn:
        """Raise ConfigError at a node."""
        where = f" at `{path}`" if path else ""
        raise ConfigError(f"{self.file}:{node.start_mark.line + 1}: {message}{where}")

    def _build(self, kind: Any, node: yaml.Node, path: str) -> Any:
        origin = typing.get_origin(kind)
        if origin in (Union, types.UnionType):
            options = [k for k in typing.get_args(kind) if k is not type(None)]
            if node.tag == "tag:yaml.org,2002:null" and len(options) < len(typing.get_args(kind)):
                return None
            return self._build(options[0], node, path)
        if dataclasses.is_dataclass(kind):
            return self._dataclass(kind, node, path)
        if origin is Literal:
            value = self._scalar(str, node, path)
            choices = typing.get_args(kind)
            if value not in choices:
                self.fail(node, path, f"{value!r} is not allowed{nearest(value, choices)}")
            return value
        if origin is tuple:
            if not isinstance(node, yaml.SequenceNode):
                self.fail(node, path, f"need a list, found {_found(node)}")
            item = typing.get_args(kind)[0]
            return tuple(self._build(item, child, f"{path}[{i}]") for i, child in enumerate(node.value))
        if origin in (dict, Mapping):
            item = typing.get_args(kind)[1]
            return {name: self._build(item, child, f"{path}.{name}") for name, _, child in self._pairs(node, path)}
        return self._scalar(kind, node, path)

    def _pairs(self, node: yaml.Node, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, path, f"need keys and values, found {_found(node)}")
        pairs: list[tuple[str, yaml.Node, yaml.Node]] = []
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fail(key, path, "a key must be a single word")
            if any(key.value == name for name, _, _ in pairs):
                self.fail(key, path, f"key {key.value!r} appears twice")
            pairs.append((key.value, key, child))
        return pairs

    def _dataclass(self, kind: Any, node: yaml.Node, path: str) -> Any:
        hints = typing.get_type_hints(kind)
        fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
        values: dict[str, Any] = {}
        for name, key, child in self._pairs(node, path):
            if name not in fields:
                self.fail(key, path, f"unknown key {name!r}{nearest(name, fields)}")
            values[name] = self._build(hints[name], child, f"{path}.{name}" if path else name)
        for name, field in fields.items():
            no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if no_default and name not in values:
                self.fail(node, path, f"key {name!r} is missing")
        try:
            return kind(**values)
        except ValueError as error:
            self.fail(node, path, str(error))

    def _scalar(self, kind: Any, node: yaml.Node, path: str) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, path, f"need {_SCALAR_WORDS[kind]}, found {_found(node)}")
        tag = node.tag.rsplit(":", 1)[-1]
        if kind is str and tag in ("str", "int", "float", "timestamp"):
            return self._expand(node, path)
        if kind is float and tag in ("float", "int"):
            number = float(yaml.safe_load(node.value))
            if not math.isfinite(number):
                self.fail(node, path, f"need a finite number, found {node.value!r}")
            return number
        if kind is float and tag == "str" and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", node.value):
            return float(node.value)  # YAML 1.1 reads 1e-3 as text
        if kind is int and tag == "int":
            return int(yaml.safe_load(node.value))
        if kind is bool and tag == "bool":
            return bool(yaml.safe_load(node.value))
        self.fail(node, path, f"need {_SCALAR_WORDS[kind]}, found {_found(node)}")

    def _expand(self, node: yaml.ScalarNode, path: str) -> str:
        if not self.expand:
            return str(node.value)

        def value(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            found = os.environ.get(name, default)
            if found is None:
                self.fail(
                    node, path, f"environment variable {name} is not set (write ${{{name}:-DEFAULT}} for a default)"
                )
            return found

        return _VARIABLE.sub(value, str(node.value))


def _found(node: yaml.Node) -> str:
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if isinstance(node, yaml.MappingNode):
        return "keys and values"
    return "nothing" if node.value == "" else repr(node.value)


def load_file(path: Path, kind: type[T], expand: bool = True) -> T:
    """A YAML file as a dataclass; raises ConfigError, for an unreadable file too."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}:1: cannot read the configuration: {error}") from error
    return TypedYaml(str(path), expand).load(text, kind)
