from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from beam_pipeline.config import PipelineConfig
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
