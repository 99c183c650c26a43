from __future__ import annotations

from pathlib import Path

from beam_pipeline.reference import render

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_the_code() -> None:
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == render(), "run `python -m beam_pipeline.reference > docs/configuration.md`"


def test_every_stage_has_its_block() -> None:
    page = render()
    for block in ("temporal_alignment", "episode_boundary", "transition_alignment", "instruction_grounding"):
        assert f"| `{block}` |" in page
    assert "| `physics.velocity_ratio` | max 1 |" in page
