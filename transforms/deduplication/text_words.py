"""Arrow strings as bytes in which word bytes are told from the rest by a table of 256.

A word is a run of letters, marks, digits and connectors (Unicode categories L, M, N, Pc: `\\w` of `re`, and the marks
that it leaves out) of the text in NFC, casefolded, NFC again. An ideograph or kana is a word of its own, since its
script puts no spaces. For ASCII that is `[a-z0-9_]+` after lowering, so only texts with other bytes are rewritten; in
what remains every byte from 0x80 up belongs to a word.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms.deduplication.shingles import Offsets

Texts = Any
"""`pa.StringArray`, `pa.LargeStringArray` or a chunked array of either; pyarrow has no types that mypy could read."""

_OWN_WORDS = ((0x2E80, 0xA4CF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x3FFFF))
"""Blocks of scripts written without spaces: Han with its radicals and extensions, kana, bopomofo, Yi."""


@dataclass(frozen=True)
class TextBytes:
    """N texts side by side, the i-th `data[offsets[i]:offsets[i + 1]]`: data (B,) uint8, offsets (N + 1,) int64."""

    data: NDArray[np.uint8]
    offsets: Offsets


class _WordCharacters(dict[int, str]):
    """For `str.translate`: a character of a word is itself, any other a space; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        found = character if category[0] in "LMN" or category == "Pc" else " "
        if found != " " and any(low <= code <= high for low, high in _OWN_WORDS):
            found = f" {character} "
        self[code] = found
        return found


_WORD_CHARACTERS = _WordCharacters()


def spaced(text: str) -> str:
    """A text in NFC and casefolded, all but its words replaced by spaces."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return folded.translate(_WORD_CHARACTERS)


def text_bytes(texts: Texts) -> TextBytes:
    """The bytes of `string` or `large_string` texts, those beyond ASCII rewritten by `spaced`; null counts as empty.

    Raises TypeError for another type and ValueError for a text that is no UTF-8.
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type)):
        raise TypeError(f"texts are {texts.type}; need string or large_string, cast them before")
    if texts.null_count:
        texts = texts.fill_null("")
    found = _views(texts)
    if len(found.data) == 0 or found.data.max() < 0x80:
        return found
    rows = np.unique(np.searchsorted(found.offsets, np.flatnonzero(found.data >= 0x80), "right") - 1)
    mask = np.zeros(len(texts), np.bool_)
    mask[rows] = True
    rewritten = pa.array([_spaced_at(found, int(row)) for row in rows], pa.large_string())
    return _views(pc.replace_with_mask(texts.cast(pa.large_string()), pa.array(mask), rewritten))


def _spaced_at(texts: TextBytes, row: int) -> str:
    body = texts.data[texts.offsets[row] : texts.offsets[row + 1]].tobytes()
    try:
        return spaced(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"text {row} is no UTF-8 ({error}); decode it from its own encoding before") from error


def _views(texts: pa.Array) -> TextBytes:
    """The array's own buffers, without a copy of the text."""
    if not len(texts):
        return TextBytes(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    _, bounds, body = texts.buffers()
    kind = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    offsets = np.frombuffer(bounds, kind)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    data = np.zeros(0, np.uint8) if body is None else np.frombuffer(body, np.uint8)
    return TextBytes(data[offsets[0] : offsets[-1]], offsets - offsets[0])
