"""What is measured of decoded frames: brightness, clipping, change; runs inside the media child process only."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

from transforms.frame_hashes import HASH_BYTES, frame_hash

Bytes = NDArray[np.uint8]
GRID = 64
MAX_PIXELS_MEASURED = 1 << 17
_AS_STORED = ("yuv420p", "yuvj420p", "yuv444p", "yuvj444p", "gray", "rgb24")
_BLOCK = 256  # 256 * 255^2 < 2^24: block sums of squares are exact in float32, so no CPU's order of adding shows


@dataclass(frozen=True)
class Light:
    """Brightness of one frame on 0..255, and `grid`: means of at most 64 x 64 cells that tile it."""

    mean: float
    std: float
    clipped_high: float
    clipped_low: float
    grid: NDArray[np.float64]


@dataclass
class Measures:
    """Per-frame measurements as they are appended; `stats` turns them into columns."""

    pts_ns: list[int] = field(default_factory=list)
    rows: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    identical: list[bool] = field(default_factory=list)
    hashes: list[Bytes] = field(default_factory=list)
    _grid: NDArray[np.float64] | None = None
    _frame: av.VideoFrame | None = None

    def add(self, pts_ns: int, frame: av.VideoFrame) -> None:
        """Measure one frame against the one before it."""
        light = measure_luma(*luma_plane(frame))
        motion, same = 0.0, False
        if self._grid is not None and self._frame is not None and self._grid.shape == light.grid.shape:
            motion = float(np.abs(light.grid - self._grid).mean())
            same = motion == 0.0 and _same_pixels(frame, self._frame)
        self._grid, self._frame = light.grid, frame
        self.pts_ns.append(pts_ns)
        self.rows.append((light.mean, light.std, light.clipped_high, light.clipped_low, motion))
        self.identical.append(same)
        self.hashes.append(self.hashes[-1] if same else frame_hash(light.grid))

    def stats(self) -> dict[str, NDArray[np.generic]]:
        """Columns by name, each (N,); `hash` (N, 32)."""
        table = np.asarray(self.rows, np.float64).reshape(-1, 5)
        names = ("mean_luma", "std_luma", "clipped_high", "clipped_low", "motion")
        columns: dict[str, NDArray[np.generic]] = {n: np.ascontiguousarray(table[:, i]) for i, n in enumerate(names)}
        columns["pts_ns"] = np.asarray(self.pts_ns, np.int64)
        columns["identical"] = np.asarray(self.identical, bool)
        columns["hash"] = np.asarray(self.hashes, np.uint8).reshape(-1, HASH_BYTES)
        return columns


def luma_plane(frame: av.VideoFrame) -> tuple[Bytes, bool]:
    """The (H, W) luma of a frame without a copy where its format has one, and whether it spans 0..255."""
    name = frame.format.name
    if not (name.startswith(("yuv4", "yuvj4", "gray", "nv12")) and frame.format.components[0].bits == 8):
        return frame.to_ndarray(format="gray"), True
    plane = frame.planes[0]
    luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    return luma, name == "gray" or name.startswith("yuvj") or int(frame.color_range) == 2


def measure_luma(luma: Bytes, full_range: bool) -> Light:
    """Brightness of a (H, W) plane, over evenly spaced rows of at most 2^17 px in all (64 rows where they are longer).

    Video range (16..235) is stretched to 0..255 first (ITU-R BT.601), so that black reads 0.
    """
    height, width = luma.shape
    cells, columns = min(GRID, height), min(GRID, width)
    per_cell = max(1, min(height // cells, MAX_PIXELS_MEASURED // (cells * width), 256))
    rows = ((np.arange(cells * per_cell) + 0.5) * (height / (cells * per_cell))).astype(np.intp)
    chosen = luma[rows] if len(rows) < height else luma
    sums = chosen[::per_cell].astype(np.uint16)
    for row in range(1, per_cell):
        sums += chosen[row::per_cell]
    starts = np.arange(columns) * width // columns
    areas = np.diff(starts, append=width) * per_cell
    totals = np.add.reduceat(sums.astype(np.uint32), starts, axis=1)
    gain, black = (1.0, 0.0) if full_range else (255.0 / 219.0, 16.0)
    mean = float(totals.sum(dtype=np.uint64)) / chosen.size
    variance = _sum_of_squares(chosen) / chosen.size - mean * mean
    return Light(
        mean=min(255.0, max(0.0, (mean - black) * gain)),
        std=max(0.0, variance) ** 0.5 * gain,
        clipped_high=np.count_nonzero(chosen >= int(np.ceil(250.0 / gain + black))) / chosen.size,
        clipped_low=np.count_nonzero(chosen <= int(np.floor(5.0 / gain + black))) / chosen.size,
        grid=totals * (gain / areas),
    )


def _sum_of_squares(luma: Bytes) -> float:
    flat = luma.astype(np.float32).reshape(-1)
    whole = flat.size // _BLOCK * _BLOCK
    blocks, rest = flat[:whole].reshape(-1, _BLOCK), flat[whole:].astype(np.float64)
    return float(np.einsum("ij,ij->i", blocks, blocks).sum(dtype=np.float64) + rest @ rest)


def _same_pixels(a: av.VideoFrame, b: av.VideoFrame) -> bool:
    if (a.width, a.height, a.format.name) != (b.width, b.height, b.format.name):
        return False
    shown = None if a.format.name in _AS_STORED else "gray16le" if a.format.components[0].bits > 8 else "rgb24"
    return bool(np.array_equal(a.to_ndarray(format=shown), b.to_ndarray(format=shown)))
