"""Every link of README and docs leads to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(page: Path) -> set[str]:
    """Headings as GitHub names them: lower case, letters, digits, `-` and `_`, blanks to `-`."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_headings_are_named_as_github_does(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# What `fails`, and why\n\n```\n# no heading\n```\n## MediaParams\n", encoding="utf-8")
    assert anchors(page) == {"what-fails-and-why", "mediaparams"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    for place, anchor in links:
        target = page if not place else (page.parent / place).resolve()
        assert target.exists(), f"{page.name} links to {place}, which is not there"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to #{anchor}, which {target.name} has not"
