from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from beam_pipeline.config import PipelineConfig
from beam_pipeline.typed_yaml import ConfigError, TypedYaml, load_file


@dataclass(frozen=True)
class Leaf:
    rate_hz: float = 20.0
    count: int = 3
    codec: Literal["zstd", "lz4"] = "zstd"

    def __post_init__(self) -> None:
        if self.rate_hz <= 0:
            raise ValueError(f"rate_hz is {self.rate_hz}; need > 0")


@dataclass(frozen=True)
class Root:
    name: str
    leaf: Leaf = field(default_factory=Leaf)
    leaves: tuple[Leaf, ...] = ()
    by_name: Mapping[str, Leaf | None] = field(default_factory=dict)
    flag: bool = False
    note: str | None = None


def load(text: str) -> Root:
    return TypedYaml("job.yaml").load(text, Root)


def test_builds_nested_values() -> None:
    root = load("name: a\nleaf: {rate_hz: 5}\nleaves: [{count: 1}, {codec: lz4}]\nby_name: {x: {count: 9}, y: null}\n")
    assert root == Root("a", Leaf(5.0), (Leaf(count=1), Leaf(codec="lz4")), {"x": Leaf(count=9), "y": None})


def test_numbers_keep_their_meaning() -> None:
    assert load("name: 1.10\nleaf: {rate_hz: 1e-3}").leaf.rate_hz == 1e-3
    assert load("name: 1.10").name == "1.10"


def test_variables_expand_with_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "/data")
    assert load("name: ${WHERE}/x${NOT_SET_ANYWHERE:-y}").name == "/data/xy"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nleaf:\n  rate_hzz: 3\n", "job.yaml:3: unknown key 'rate_hzz'; did you mean 'rate_hz'? at `leaf`"),
        ("name: a\nzzz: 3\n", "job.yaml:2: unknown key 'zzz'; known: by_name, flag, leaf, leaves, name, note"),
        ("leaf: {}\n", "job.yaml:1: key 'name' is missing"),
        ("name: a\nleaf: {count: many}", "job.yaml:2: need a whole number, found 'many' at `leaf.count`"),
        ("name: a\nleaf: {count: 1.5}", "job.yaml:2: need a whole number, found '1.5' at `leaf.count`"),
        ("name: a\nleaf: {rate_hz: true}", "job.yaml:2: need a number, found 'true' at `leaf.rate_hz`"),
        ("name: a\nleaf: {rate_hz: .nan}", "job.yaml:2: need a finite number, found '.nan' at `leaf.rate_hz`"),
        ("name: a\nleaf: {rate_hz: .inf}", "job.yaml:2: need a finite number, found '.inf' at `leaf.rate_hz`"),
        ("name: a\nflag: 1", "job.yaml:2: need true or false, found '1' at `flag`"),
        ("name: a\nleaves: {}", "job.yaml:2: need a list, found keys and values at `leaves`"),
        ("name: a\nleaf: 3", "job.yaml:2: need keys and values, found '3' at `leaf`"),
        ("name: [a]", "job.yaml:1: need text, found a list at `name`"),
        ("name: a\nleaf: {codec: zst}", "job.yaml:2: 'zst' is not allowed; did you mean 'zstd'? at `leaf.codec`"),
        ("name: a\nleaf: {rate_hz: -1}", "job.yaml:2: rate_hz is -1.0; need > 0 at `leaf`"),
        ("name: a\nname: b", "job.yaml:2: key 'name' appears twice"),
        ("name: ${NOT_SET_ANYWHERE}", "job.yaml:1: environment variable NOT_SET_ANYWHERE is not set"),
        ("", "job.yaml:1: the file is empty"),
        ("name: 'a", "not YAML"),
        ("name: !!python/object/apply:os.system [ls]", "job.yaml:1: need text, found a list"),
    ],
)
def test_errors_name_key_line_and_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert message in str(caught.value)


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml:1: cannot read the configuration"):
        load_file(tmp_path / "nothing.yaml", Root)


@pytest.mark.parametrize("odd", ["2024-13-45", "1", "0o7", "12:30:99"])
def test_a_configuration_is_hashed_as_it_is_written(tmp_path: Path, odd: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.mp4").write_bytes(b"x")
    text = f"sources: [{{name: {odd}, path: data}}]\nembodiments: {{1: {{rate_hz: 20}}, panda: {{}}}}\n"
    hashes = set()
    for layout in (text, "# the same\n" + text.replace(", path", ",   path")):
        (tmp_path / "job.yaml").write_text(layout)
        hashes.add(PipelineConfig.load(tmp_path / "job.yaml").config_hash)
    (tmp_path / "job.yaml").write_text(text.replace("20", "21"))
    assert len(hashes) == 1 and PipelineConfig.load(tmp_path / "job.yaml").config_hash not in hashes
