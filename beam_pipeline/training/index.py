"""Where each episode's rows lie: a few numbers an episode, none a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.curated import CuratedSet
from beam_pipeline.training.errors import TrainingDataError
from beam_pipeline.training.splits import NAMES, read_splits
from transforms.output_files import EPISODES, TRANSITIONS

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class EpisodeIndex:
    """E episodes with rows: their part, first row in it and number of rows, and (E + 1,) the first sample of each."""

    paths: tuple[Path, ...]
    sources: tuple[str, ...]
    """Source of each part."""
    part: Ints
    first: Ints
    rows: Ints
    sample: Ints
    ids: pa.Array
    tasks: pa.Array
    embodiments: pa.DictionaryArray

    def __len__(self) -> int:
        return int(self.sample[-1])

    def episode_of(self, sample: int) -> int:
        """The episode that a sample is of."""
        return int(np.searchsorted(self.sample, sample, side="right")) - 1


def index_episodes(curated: CuratedSet, sources: Sequence[str] | None = None, split: str | None = None) -> EpisodeIndex:
    """The chosen sources' and split's episodes; raises TrainingDataError where a name is wrong or nothing is left."""
    there = tuple(curated.sources())
    unknown = sorted(set(sources or ()) - set(there))
    if unknown:
        raise TrainingDataError(f"sources names {unknown[0]!r}; {curated.folder} has {', '.join(there)}")
    if split is not None and split not in NAMES:
        raise TrainingDataError(f"split is {split!r}; there are {', '.join(NAMES)}")
    splits = None if split is None else read_splits(curated)
    paths: list[Path] = []
    owners: list[str] = []
    columns: list[list[pa.Array]] = [[], [], []]
    numbers: list[Ints] = []
    for source in there if sources is None else sorted(set(sources)):
        for path in curated.files(TRANSITIONS, source):
            rows = curated.beside(path, EPISODES, ["episode_id", "instruction", "embodiment", "n_transitions"])
            count = rows["n_transitions"].to_numpy().astype(np.int64)
            first = np.cumsum(count) - count
            wanted = count > 0
            if splits is not None:
                wanted &= np.array([splits[name] == split for name in rows["episode_id"].to_pylist()], np.bool_)
            for held, name in zip(columns, ("episode_id", "instruction", "embodiment"), strict=True):
                held.append(rows[name].combine_chunks().filter(pa.array(wanted)))
            numbers.append(np.stack([np.full(len(count), len(paths)), first, count])[:, wanted])
            paths.append(path)
            owners.append(source)
    part, first, count = np.concatenate(numbers, axis=1) if numbers else np.zeros((3, 0), np.int64)
    if not len(part):
        chosen = f"split {split!r} of " * (split is not None) + f"sources {', '.join(sources or there) or 'none'}"
        raise TrainingDataError(f"{curated.folder} has no transition in {chosen}; choose others, or split anew")
    ids, tasks, embodiments = (pa.concat_arrays(held) for held in columns)
    return EpisodeIndex(
        paths=tuple(paths),
        sources=tuple(owners),
        part=part,
        first=first,
        rows=count,
        sample=np.concatenate([[0], np.cumsum(count)]),
        ids=ids,
        tasks=tasks,
        embodiments=embodiments.dictionary_encode(),
    )
