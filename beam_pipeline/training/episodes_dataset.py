"""EpisodesDataset: transitions of a published folder as a torch Dataset, with LeRobot's delta_timestamps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedSet
from beam_pipeline.training.errors import TrainingDataError
from beam_pipeline.training.index import EpisodeIndex, index_episodes
from beam_pipeline.training.normalisation import Mode, Normaliser, load_statistics, normaliser
from beam_pipeline.training.pictures import Pictures, Pixels
from beam_pipeline.training.row_groups import PartColumns, is_camera
from beam_pipeline.training.windows import window
from transforms.column_summary import is_numeric
from transforms.episode import TIMESTAMP
from transforms.schema import FRAME_INDEX

try:
    import torch
    from torch.utils.data import Dataset
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed; EpisodesDataset needs it: pip install 'demosift[training]'", name=error.name
    ) from error

PAD = "_is_pad"
"""LeRobot's suffix of the mask that says which places of a window hold no step of their own."""
_OWN = (TIMESTAMP, FRAME_INDEX)
_UNPADDED = np.zeros(1, np.bool_)


class EpisodesDataset(Dataset[dict[str, Any]]):
    """A sample is a transition: its columns, and windows around it that cross no episode and no gap.

    `columns` are numeric columns and cameras; by default all that every chosen source has. `delta_timestamps` maps a
    column to seconds relative to the step: its value is then (H, ...), of the nearest steps within `tolerance_s`
    (default: half a period), and COLUMN_is_pad (H,) is True where there is none and the nearest fills the place.
    `normalize` maps a column to how it is scaled by the statistics of the sample's source and embodiment. Pictures
    are (3, H, W) RGB, float in [0, 1] or uint8; a camera that saw nothing is black, with COLUMN_is_pad. Beside the
    columns: episode_id, episode_index, frame_index, timestamp (s since the episode's first transition), source, task.

    Raises OutputError or TrainingDataError where the folder, the splits or the choice of columns do not fit.
    """

    def __init__(
        self,
        folder: str | Path,
        columns: Sequence[str] | None = None,
        delta_timestamps: Mapping[str, Sequence[float]] | None = None,
        *,
        split: str | None = None,
        sources: Sequence[str] | None = None,
        normalize: Mapping[str, Mode] | None = None,
        tolerance_s: float | None = None,
        pictures: Literal["float", "uint8"] = "float",
        cache_mb: int = 256,
    ) -> None:
        curated = CuratedSet(folder)
        self.index: EpisodeIndex = index_episodes(curated, sources, split)
        self.parts = PartColumns(self.index.paths, cache_mb << 20)
        self._pictures = Pictures(curated.folder)
        self._as_float = pictures == "float"
        self._tolerance_ns = None if tolerance_s is None else tolerance_s * 1e9
        schema = self.parts.schema(0)
        self.columns: tuple[str, ...] = tuple(columns) if columns is not None else _shared(self.parts, self.index)
        for name in (*self.columns, *(delta_timestamps or ()), *(normalize or ())):
            _check_column(name, schema, self.columns)
        deltas = {name: np.array(times, np.float64) * 1e9 for name, times in (delta_timestamps or {}).items()}
        self._deltas = {name: np.round(times).astype(np.int64) for name, times in deltas.items()}
        self._cameras = frozenset(name for name in self.columns if is_camera(schema.field(name).type))
        self._normalisers = self._load_normalisers(curated, normalize or {})

    def _load_normalisers(
        self, curated: CuratedSet, modes: Mapping[str, Mode]
    ) -> dict[tuple[str, str, str], Normaliser]:
        if not modes:
            return {}
        statistics, index = load_statistics(curated.folder), self.index
        robots = {
            (index.sources[part], index.embodiments.dictionary[code].as_py())
            for part, code in {*zip(index.part.tolist(), index.embodiments.indices.to_pylist(), strict=True)}
        }
        return {
            (source, embodiment, name): normaliser(statistics, source, embodiment, name, mode)
            for source, embodiment in sorted(robots)
            for name, mode in modes.items()
        }

    def __len__(self) -> int:
        return len(self.index)

    def normaliser(self, column: str, source: str | None = None) -> Normaliser:
        """What scaled a column, to invert it on a policy's output; `source` where there are several robots."""
        found = [n for (s, _, c), n in self._normalisers.items() if c == column and source in (None, s)]
        if len(found) != 1:
            raise TrainingDataError(
                f"{column!r} is scaled in {len(found)} ways here; name it in normalize=, and a source="
            )
        return found[0]

    def __getitem__(self, sample: int) -> dict[str, Any]:
        index = self.index
        if not -len(self) <= sample < len(self):
            raise IndexError(f"sample {sample} of {len(self)}")
        sample = sample % len(self)
        episode = index.episode_of(sample)
        part, first = int(index.part[episode]), int(index.first[episode])
        row, stop = first + sample - int(index.sample[episode]), first + int(index.rows[episode])
        source, episode_id = index.sources[part], index.ids[episode].as_py()
        clock = self.parts.clock(part)
        item: dict[str, Any] = {
            "episode_id": episode_id,
            "episode_index": episode,
            FRAME_INDEX: int(clock.frame_index[row]),
            "timestamp": float(clock.time_ns[row] - clock.time_ns[first]) / 1e9 if clock.timed[row] else float("nan"),
            "source": source,
            "task": index.tasks[episode].as_py() or "",
        }
        own = np.array([row])
        for name in self.columns:
            rows, padded = own, _UNPADDED
            if name in self._deltas:
                found = window(clock, row, first, stop, self._deltas[name], self._tolerance_ns, episode_id)
                rows, padded = found.rows, found.padded
            if name in self._cameras:
                values, unseen = self._seen(part, rows, name, episode_id)
                padded = padded | unseen
            else:
                values = self._numbers(part, rows, name, episode)
            windowed = name in self._deltas
            item[name] = values if windowed else values[0]
            if windowed:
                item[name + PAD] = torch.from_numpy(padded)
            elif name in self._cameras:
                item[name + PAD] = torch.tensor(bool(padded[0]))
        return item

    def _numbers(self, part: int, rows: NDArray[np.int64], name: str, episode: int) -> torch.Tensor:
        values = self.parts.take(part, rows, name)
        if self._normalisers:
            embodiment = self.index.embodiments[episode].as_py()
            scaling = self._normalisers.get((self.index.sources[part], embodiment, name))
            if scaling is not None:
                flat = values if values.ndim > 1 else values[:, None]
                values = scaling.apply(flat.astype(np.float32)).reshape(values.shape)
        return torch.from_numpy(values)

    def _seen(
        self, part: int, rows: NDArray[np.int64], name: str, episode_id: str
    ) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        shown: list[Pixels | None] = []
        for row in rows.tolist():
            group, at = self.parts.group_of(part, row)
            column = self.parts.group(part, group, name)
            shown.append(self._pictures.at(column, at, f"{name!r} of episode {episode_id!r}"))
        unseen = np.array([pixels is None for pixels in shown])
        known = next((pixels for pixels in shown if pixels is not None), None)
        blank = np.zeros(known.shape, known.dtype) if known is not None else self._blank(part, name, episode_id)
        return torch.stack([self._tensor(blank if pixels is None else pixels) for pixels in shown]), unseen

    def _blank(self, part: int, name: str, episode_id: str) -> Pixels:
        """Black in the size that the part's first picture has."""
        for group in range(len(self.parts.starts(part)) - 1):
            column = self.parts.group(part, group, name)
            for row in np.flatnonzero(np.asarray(column.is_valid()))[:1].tolist():
                pixels = self._pictures.at(column, row, f"{name!r} of part {part}")
                if pixels is not None:
                    return np.zeros_like(pixels)
        raise TrainingDataError(f"{name!r} has no picture beside episode {episode_id!r}; leave it out of columns=")

    def _tensor(self, pixels: Pixels) -> torch.Tensor:
        if pixels.ndim == 2:  # depth keeps its own unit
            return torch.from_numpy(pixels.astype(np.float32)[None])
        tensor = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return tensor.float() / 255 if self._as_float else tensor


def _check_column(name: str, schema: pa.Schema, chosen: Sequence[str]) -> None:
    if name not in schema.names:
        import difflib

        close = difflib.get_close_matches(name, schema.names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(schema.names)}"
        raise TrainingDataError(f"there is no column {name!r}; {hint}")
    if name not in chosen:
        raise TrainingDataError(f"{name!r} is not among the columns of the samples; add it to columns=")
    kind = schema.field(name).type
    if not (is_numeric(kind) or is_camera(kind)):
        raise TrainingDataError(f"{name!r} is {kind}, neither numbers nor a camera; leave it out of columns=")


def _shared(parts: PartColumns, index: EpisodeIndex) -> tuple[str, ...]:
    """Columns that hold something in the first row group of every chosen source."""
    schema = parts.schema(0)
    names = [f.name for f in schema if f.name not in _OWN and (is_numeric(f.type) or is_camera(f.type))]
    for source in dict.fromkeys(index.sources):
        part = index.sources.index(source)
        held = {name: parts.groups(part).read(0, name) for name in names}
        names = [name for name in names if held[name].null_count < len(held[name])]
    return tuple(names)
