"""docs/runner.md names every option with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from beam_pipeline.runner import RayOptions

PAGE = (Path(__file__).parents[2] / "docs" / "runner.md").read_text(encoding="utf-8")


def test_every_option_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `--(ray_\w+)` \| ([^|]+?) \|", PAGE, re.MULTILINE))
    options = RayOptions([])
    names = {name for name in RayOptions([]).get_all_options() if name.startswith("ray_")}
    assert rows.keys() == names
    for name, told in rows.items():
        default = getattr(options, name)
        assert (
            default is None or told == f"{default:g}"
            if isinstance(default, float)
            else default in (None, told) or (str(default) == told)
        ), name
