"""A picture's layout without a learned model: low frequencies of its light and colour, and where its edges point.

The parts are a discrete cosine transform of luma and two colour differences on a small grid (as in MPEG-7's colour
layout descriptor) and histograms of oriented gradients by cell (Dalal and Triggs 2005, without overlap). Each has
length 1 before they are joined, so neither drowns the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.handlers.blocks import Floats, Pixels

GRID_PIXELS = 32
"""A picture is brought to GRID_PIXELS squared by the mean of its areas."""
LUMA_TERMS, COLOUR_TERMS = 8, 4
CELLS, ORIENTATIONS = 4, 8
WIDTH = LUMA_TERMS**2 - 1 + 2 * COLOUR_TERMS**2 + CELLS**2 * ORIENTATIONS
"""The mean of luma is left out: brightness alone should not tell two pictures apart."""
_LEAST = 1e-6
"""Shorter parts are rounding errors of a flat picture: they say nothing."""
_LUMA = np.array([0.299, 0.587, 0.114])


def _cosines(terms: int) -> NDArray[np.float64]:
    """(terms, GRID_PIXELS) rows of the orthonormal DCT-II."""
    place = np.arange(GRID_PIXELS) + 0.5
    rows = np.cos(np.pi / GRID_PIXELS * np.arange(terms)[:, None] * place) * np.sqrt(2 / GRID_PIXELS)
    rows[0] /= np.sqrt(2)
    return rows


def _low(grid: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """(N, terms squared) lowest terms of (N, G, G) planes."""
    rows = _cosines(terms)
    return (rows @ grid @ rows.T).reshape(len(grid), -1)


def _edges(luma: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, CELLS^2 * ORIENTATIONS) gradient strength by cell and by direction modulo half a turn, of (N, G, G)."""
    across, down = np.gradient(luma, axis=2), np.gradient(luma, axis=1)
    strength = np.hypot(across, down)
    turn = np.mod(np.arctan2(down, across), np.pi)
    direction = np.minimum((turn / np.pi * ORIENTATIONS).astype(np.int64), ORIENTATIONS - 1)
    cell = np.arange(GRID_PIXELS) * CELLS // GRID_PIXELS
    place = (cell[:, None] * CELLS + cell) * ORIENTATIONS + direction
    size = CELLS**2 * ORIENTATIONS
    flat = (place + size * np.arange(len(luma))[:, None, None]).ravel()
    found: NDArray[np.float64] = np.bincount(flat, strength.ravel(), size * len(luma)).astype(np.float64)
    return found.reshape(len(luma), size)


def describe_frames(frames: Pixels) -> Floats:
    """(N, WIDTH) descriptors of (N, H, W, 3) RGB; H and W are multiples of GRID_PIXELS. A flat picture's is zero."""
    count, height, width, _ = frames.shape
    cells = frames.reshape(count, GRID_PIXELS, height // GRID_PIXELS, GRID_PIXELS, width // GRID_PIXELS, 3)
    small = cells.mean((2, 4), dtype=np.float64)
    luma = small @ _LUMA
    parts = [
        np.concatenate(
            [
                _low(luma, LUMA_TERMS)[:, 1:],
                _low(small[..., 2] - luma, COLOUR_TERMS),
                _low(small[..., 0] - luma, COLOUR_TERMS),
            ],
            axis=1,
        ),
        _edges(luma),
    ]
    lengths = [np.linalg.norm(part, axis=1, keepdims=True) for part in parts]
    scaled = [
        np.where(length > _LEAST, part / np.maximum(length, _LEAST), 0.0)
        for part, length in zip(parts, lengths, strict=True)
    ]
    return np.concatenate(scaled, axis=1).astype(np.float32)
