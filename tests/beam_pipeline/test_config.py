from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from beam_pipeline.config import PipelineConfig
from beam_pipeline.typed_yaml import ConfigError
from transforms.conventions import Source
from transforms.sinks import SinkParams


def test_configurations_made_in_python_are_told_apart() -> None:
    config = PipelineConfig((Source("a", "x"),))
    assert config.config_hash == PipelineConfig((Source("a", "x"),)).config_hash != ""
    assert replace(config, sink=SinkParams(compression="lz4")).config_hash != config.config_hash


def test_the_hash_of_a_file_knows_neither_layout_nor_machine(tmp_path: Path) -> None:
    texts = ("sources: [{name: a, path: ./x}]\n", "# a note\nsources:\n  - path: ./x\n    name: a\n")
    hashes = set()
    for number, text in enumerate(texts):
        folder = tmp_path / str(number)
        (folder / "x").mkdir(parents=True)
        (folder / "x/a.mp4").write_bytes(b"x")
        (folder / "job.yaml").write_text(text, encoding="utf-8")
        hashes.add(PipelineConfig.load(folder / "job.yaml").config_hash)
    assert len(hashes) == 1


def test_a_reader_that_cannot_be_had_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set.tfrecord").write_bytes(b"x")
    file = tmp_path / "job.yaml"
    file.write_text("sources:\n  - {name: s, path: set.tfrecord, format: rlds, reader: tensorflow}\n")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        PipelineConfig.load(file)
    said = str(error.value)
    assert said.startswith(
        f"{file}:2: source 's': `reader: tensorflow`: tensorflow and tensorflow_io cannot be imported"
    )
    assert said.endswith("(`make tensorflow`), or leave `reader` out: the recordings are the same")
    file.write_text("sources:\n  - {name: s, path: set.tfrecord, reader: tensorflow}\n")
    with pytest.raises(
        ConfigError, match=r"source 's': `reader: tensorflow` reads RLDS alone and the format is 'auto'"
    ):
        PipelineConfig.load(file)
    file.write_text("sources:\n  - {name: s, path: set.tfrecord, format: rlds, reader: tf}\n")
    with pytest.raises(ConfigError, match="reader"):
        PipelineConfig.load(file)
