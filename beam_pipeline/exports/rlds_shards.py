"""Shards of one split: TFRecord files of at most a size, named by their number once that is known."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from beam_pipeline.exports.rlds_features import SplitInfo
from transforms.sources.tfrecord import FOOTER_BYTES, HEADER_BYTES, write_record

SHARD_BYTES = 256 << 20
"""TFDS aims at 64 MiB to 1 GiB."""


class ShardWriter:
    """Writes records in order; an episode larger than a shard has one of its own."""

    def __init__(self, folder: Path, dataset: str, split: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._stem = folder / f"{dataset}-{split}.tfrecord"
        self._split = split
        self._limit = shard_bytes
        self._lengths: list[int] = []
        self._bytes_in_shard = 0
        self._n_bytes = 0
        self._file: BinaryIO | None = None

    def _temporary(self, index: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}-{index:05d}.unnamed")

    def write(self, payload: bytes) -> None:
        """Append one episode."""
        size = HEADER_BYTES + len(payload) + FOOTER_BYTES
        if self._file is None or self._bytes_in_shard + size > self._limit:
            self._end_shard()
            self._file = self._temporary(len(self._lengths)).open("wb")
            self._lengths.append(0)
            self._bytes_in_shard = 0
        self._bytes_in_shard += write_record(self._file, payload)
        self._lengths[-1] += 1
        self._n_bytes += len(payload)

    def _end_shard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> SplitInfo:
        """Give the files their names, `…-00000-of-00003`; returns what dataset_info.json says of them."""
        self._end_shard()
        count = len(self._lengths)
        for index in range(count):
            final = self._stem.with_name(f"{self._stem.name}-{index:05d}-of-{count:05d}")
            self._temporary(index).replace(final)
        return SplitInfo(self._split, tuple(self._lengths), self._n_bytes)
