"""Instructions that say nothing: stock phrases, and texts with hardly a word of content."""

from __future__ import annotations

import re
from functools import lru_cache

from transforms.episode import nfc

MIN_CONTENT_WORDS = 2
GENERIC = (
    r"(do|perform|execute|complete|finish|run) (the |an? |some )?((some|any)?thing|task|job|action|demo|episode)s?",
    r"do some ?thing",
    r"(some|any)thing",
    r"(task|test|testing|demo|episode|trial|debug|sample|example|recording|dummy)[ _-]*\d*",
    r"(valid|invalid|todo|tbd|none|null|nan|n/?a|unknown|unnamed|untitled|default|placeholder|instruction|success|failure)",
    r"(teleoperat\w*|teleop|move( the)? (robot|arm))",
)
STOPWORDS = frozenset(
    (
        *("a", "an", "the", "some", "any", "this", "that", "these", "those", "it", "its", "you", "your", "robot"),
        *("to", "of", "in", "on", "at", "into", "onto", "from", "with", "and", "then", "or", "please", "now"),
        *("do", "does", "did", "is", "are", "be", "thing", "things", "something", "anything", "task", "tasks", "job"),
    )
)


@lru_cache(maxsize=8)
def _patterns(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{p})" for p in patterns))


def says_nothing(text: str, patterns: tuple[str, ...] = GENERIC, min_content_words: int = MIN_CONTENT_WORDS) -> bool:
    """True where a text names no deed: a stock phrase, or fewer content words than `min_content_words`.

    Words are counted only in texts of ASCII letters; other scripts need not put blanks between words.
    """
    plain = re.sub(r"[\s_]+", " ", nfc(text).lower()).strip(" .!?,;:\"'")
    if _patterns(patterns).fullmatch(plain):
        return True
    if not plain.isascii():
        return False
    content = [w for w in re.findall(r"[a-z]+", plain) if w not in STOPWORDS]
    return len(content) < min_content_words
