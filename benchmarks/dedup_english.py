"""English-like texts from a committed seed, with planted pairs of known likeness, for the signature benchmark.

An invented vocabulary of 50,000 words is drawn by rank r with weight 1 / (r + 2.7) (Zipf and Mandelbrot); frequent
words are short (Zipf's law of brevity). Texts are sentences of 5 to 30 words with a capital, commas and a full stop,
198 words on average (log-normal, 40 at least). The last texts are copies of the first ones with some words replaced.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa

SEED = 2026
WORDS_MEAN = 198
_VOCABULARY = 50_000
_LETTERS = "etaoinshrdlcumwfgypbvkjxqz"
_WORD = re.compile(r"\w+")


def vocabulary(rng: np.random.Generator) -> list[str]:
    """Distinct words by rank, from 1 letter to 14."""
    weights = np.array([0.9**i for i in range(26)])
    letters = rng.choice(list(_LETTERS), (3 * _VOCABULARY, 14), p=weights / weights.sum())
    ranks = np.repeat(np.arange(_VOCABULARY), 3)
    lengths = np.clip(np.rint(rng.normal(2.2 + 0.62 * np.log(ranks + 1), 1.5)), 1, 14).astype(int)
    drawn = ("".join(row[:length]) for row, length in zip(letters, lengths, strict=True))
    return list(dict.fromkeys(drawn))[:_VOCABULARY]


def _sentences(words: list[str], rng: np.random.Generator) -> str:
    out, start = [], 0
    while start < len(words):
        stop = start + int(rng.integers(5, 31))
        sentence = words[start:stop]
        sentence[0] = sentence[0].capitalize()
        comma = int(rng.integers(0, 2 * len(sentence)))
        if comma < len(sentence) - 1:
            sentence[comma] += ","
        sentence[-1] += "."
        out += sentence
        start = stop
    return " ".join(out)


def english(documents: int, pairs: int, seed: int = SEED) -> pa.Array:
    """`documents` texts; text i < `pairs` has its altered copy at `documents - pairs + i`."""
    rng = np.random.default_rng(seed)
    words = vocabulary(rng)
    weights = 1 / (np.arange(len(words)) + 2.7)
    cumulative = np.cumsum(weights) / weights.sum()
    sigma = 0.5
    lengths = np.maximum(rng.lognormal(np.log(WORDS_MEAN) - sigma**2 / 2, sigma, documents - pairs), 40).astype(int)
    texts, originals = [], []
    for number, length in enumerate(lengths.tolist()):
        chosen = [words[i] for i in np.searchsorted(cumulative, rng.random(length)).tolist()]
        if number < pairs:
            originals.append(chosen)
        texts.append(_sentences(list(chosen), np.random.default_rng([seed, number])))
    for number, chosen in enumerate(originals):
        altered = list(chosen)
        for place in rng.choice(len(altered), int(rng.integers(1, 1 + len(altered) // 8)), replace=False).tolist():
            altered[place] = words[int(np.searchsorted(cumulative, rng.random()))]
        # the same sentences, so that what spaces part is as alike as the words are
        texts.append(_sentences(altered, np.random.default_rng([seed, number])))
    return pa.array(texts, pa.string())


def true_jaccard(a: str, b: str, whole_words: bool, n: int = 5) -> float:
    """Jaccard of two texts' n-grams by Python's sets, of bare lower-case words or of what spaces part."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = _WORD.findall(text.lower()) if whole_words else text.split()
        return {tuple(words[i : i + n]) for i in range(max(len(words) - n + 1, 1))}

    left, right = grams(a), grams(b)
    return len(left & right) / len(left | right)
