"""The stable codes of `inspect`: what each means and what to do. A code keeps its meaning and is never used again."""

from __future__ import annotations

from collections.abc import Mapping

from beam_pipeline.inspection.code import OTHER, Code
from beam_pipeline.inspection.codes_of_content import CONTENT
from beam_pipeline.inspection.codes_of_files import FILES
from beam_pipeline.inspection.codes_of_metadata import METADATA

CODES: tuple[Code, ...] = (*FILES, *METADATA, *CONTENT)


def by_key() -> Mapping[str, Code]:
    """The code of each check, rule and name of ours."""
    return {key: code for code in CODES for key in code.keys}


_BY_KEY = by_key()


def code_of(key: str) -> Code:
    """The code that a check or a rule of the loader is reported under; DATA-900 for one that has none of its own."""
    return _BY_KEY.get(key) or _BY_KEY[OTHER]
