"""Reads a report as a browser's parser does, with none of the project's code."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "br", "img", "link", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """Tags in order, texts outside of style, and whatever is wrong with the nesting."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open_tags: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    style: str = ""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self.open_tags and self.open_tags[-1] == "style":
            self.style += data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All text, blanks joined."""
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def attributes(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    def section(self, identity: str) -> str:
        """The text of one section; sections do not nest."""
        return self._sections[identity]

    _sections: dict[str, str] = field(default_factory=dict)


def read_page(path: Path) -> Page:
    """Parse a whole file; fails where tags do not nest."""
    source = path.read_text(encoding="utf-8")
    page = Page()
    page.feed(source)
    page.close()
    assert not page.faults and not page.open_tags, (page.faults[:3], page.open_tags)
    for match in re.finditer(r'<section id="(\w+)">(.*?)</section>', source, re.DOTALL):
        part = Page()
        part.feed(match[2])
        page._sections[match[1]] = part.text
    return page


def rows_of(path: Path, section: str) -> list[list[str]]:
    """Cells of every table row in a section."""
    source = path.read_text(encoding="utf-8")
    body = re.search(rf'<section id="{section}">(.*?)</section>', source, re.DOTALL)
    assert body is not None
    found = []
    for row in re.findall(r"<tr[^>]*>(.*?)</tr>", body[1], re.DOTALL):
        cells = []
        for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL):
            part = Page()
            part.feed(cell)
            cells.append(part.text.strip())
        found.append(cells)
    return found
