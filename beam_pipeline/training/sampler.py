"""RowGroupSampler: a shuffle that reads each row group once, for sets that no cache holds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from beam_pipeline.training.episodes_dataset import EpisodesDataset


class RowGroupSampler:
    """Samples in a random order that stays within a few row groups at a time: `DataLoader(dataset, sampler=...)`.

    Row groups come in random order; of each `groups_at_once` the samples are shuffled together. Every sample comes
    once; the order depends on `seed` and the epoch alone (`set_epoch`, as torch's DistributedSampler has it).
    """

    def __init__(self, dataset: EpisodesDataset, seed: int = 0, groups_at_once: int = 16) -> None:
        if groups_at_once < 1:
            raise ValueError(f"groups_at_once is {groups_at_once}; need at least 1")
        self._dataset = dataset
        self._seed = seed
        self._at_once = groups_at_once
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another epoch, another order."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self._seed, self._epoch])
        groups = self._groups()
        order = random.permutation(len(groups)).tolist()
        for start in range(0, len(order), self._at_once):
            samples = np.concatenate([groups[i] for i in order[start : start + self._at_once]])
            yield from random.permutation(samples).tolist()

    def _groups(self) -> list[NDArray[np.int64]]:
        """Samples of each row group that holds any."""
        index = self._dataset.index
        found = []
        for part in range(len(index.paths)):
            starts = self._dataset.parts.starts(part)
            episodes = np.flatnonzero(index.part == part)
            if not len(episodes):
                continue
            rows = index.rows[episodes]
            offset = np.arange(rows.sum()) - np.repeat(np.cumsum(rows) - rows, rows)
            samples = np.repeat(index.sample[episodes], rows) + offset
            group = np.searchsorted(starts, np.repeat(index.first[episodes], rows) + offset, side="right")
            found += [samples[group == g] for g in np.unique(group)]
        return found
