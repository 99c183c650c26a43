"""Serialised ROS messages as arrays: one message is walked, all that are laid out like it are taken as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.sources.ros_definition import Definition
from transforms.sources.ros_layout import Bytes, Layout, MalformedMessage, Rows, Wire, layout_of

__all__ = ["Decoder", "MalformedMessage", "Part", "Rows", "Wire", "merged"]

_MAX_LAYOUTS = 64
"""So many layouts of one topic are looked for in bulk; messages of others are walked one by one."""


@dataclass(frozen=True, eq=False)
class Part:
    """Messages of one layout: `rows` (M,) their numbers, `columns` (M,) or (M, D) by path, `labels` texts by path.

    `spare` (M,) is how many bytes follow each message's end. `tails` (M, 2) are place and size of the byte sequence
    that ends it, counted from the message's start; empty (0, 2) where the type has none.
    """

    layout: Layout
    rows: Rows
    columns: Mapping[str, NDArray[np.generic]]
    spare: Rows
    tails: Rows

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        return self.layout.labels


def _windows(buffer: Bytes, starts: Rows, size: int) -> Bytes:
    """(M, size) bytes from each start; the caller has checked that they lie in the buffer."""
    if size == 0:
        return np.zeros((len(starts), 0), np.uint8)
    every = np.ndarray((len(buffer) - size + 1,), f"V{size}", buffer, strides=(1,))
    return every[starts].view(np.uint8).reshape(len(starts), size)  # a memcpy a message, not an index a byte


def _agreeing(rows: Bytes, layout: Layout) -> NDArray[np.bool_] | None:
    """Which rows (M, head) hold the layout's fixed bytes; None for all of them."""
    good: NDArray[np.bool_] | None = None
    for at, piece in layout.fixed:
        part = np.ascontiguousarray(rows[:, at : at + len(piece)])
        if part.tobytes() == piece * len(rows):
            continue
        same = (part == np.frombuffer(piece, np.uint8)).all(axis=1)
        good = same if good is None else good & same
    return good


def _columns(rows: Bytes, layout: Layout) -> dict[str, NDArray[np.generic]]:
    columns: dict[str, NDArray[np.generic]] = {}
    for slot in layout.slots:
        kind = np.dtype(slot.dtype)
        many = 1 if slot.count is None else slot.count
        raw = np.ascontiguousarray(rows[:, slot.offset : slot.offset + kind.itemsize * many])
        values = raw.view(kind) if many else np.zeros((len(rows), 0), kind)
        values = values.astype(kind.newbyteorder("="), copy=False)
        columns[slot.path] = values.reshape(-1) if slot.count is None else values
    return columns


def merged(parts: Sequence[Part]) -> list[Part]:
    """One part for each layout, in the order in which they were met."""
    groups: dict[int, list[Part]] = {}
    for part in parts:
        groups.setdefault(id(part.layout), []).append(part)
    return [group[0] if len(group) == 1 else _concatenated(group) for group in groups.values()]


def _concatenated(parts: Sequence[Part]) -> Part:
    columns = {path: np.concatenate([part.columns[path] for part in parts]) for path in parts[0].columns}
    rows, spare, tails = (
        np.concatenate(arrays) for arrays in zip(*((p.rows, p.spare, p.tails) for p in parts), strict=True)
    )
    return Part(parts[0].layout, rows, columns, spare, tails)


class Decoder:
    """Decodes the messages of one topic, batch by batch; remembers the layouts that it has met."""

    def __init__(self, definition: Definition, wire: Wire) -> None:
        self._definition = definition
        self._wire = wire
        self._layouts: list[Layout] = []

    def decode(self, buffer: Bytes, starts: Rows, sizes: Rows, first: int = 0) -> tuple[list[Part], Rows, str]:
        """Parts of the messages at `starts` (M,) of `sizes` (M,) bytes, those that are malformed, and why the first is.

        `first` is the number of the first message; `rows` count from it.
        """
        left = np.arange(len(starts))
        parts: list[Part] = []
        bad: list[int] = []
        why = ""
        for layout in self._layouts:
            left = self._take(layout, buffer, starts, sizes, left, first, parts)
        while len(left):
            at = int(left[0])
            data = buffer.data[int(starts[at]) : int(starts[at] + sizes[at])]
            try:
                layout = layout_of(data, self._definition, self._wire)
            except MalformedMessage as error:
                bad.append(at)
                why = why or str(error)
                left = left[1:]
                continue
            if len(self._layouts) < _MAX_LAYOUTS:
                self._layouts.append(layout)
                left = self._take(layout, buffer, starts, sizes, left, first, parts)
            else:
                self._take(layout, buffer, starts, sizes, left[:1], first, parts)
                left = left[1:]
        return parts, np.array(bad, np.int64) + first, why

    @staticmethod
    def _take(
        layout: Layout, buffer: Bytes, starts: Rows, sizes: Rows, left: Rows, first: int, parts: list[Part]
    ) -> Rows:
        """Move the messages among `left` that have the layout to `parts`; return the others."""
        if not len(left):
            return left
        fits = sizes[left] >= layout.head
        chosen = left if fits.all() else left[fits]
        if not len(chosen):
            return left
        rows = _windows(buffer, starts[chosen], layout.head)
        good = _agreeing(rows, layout)
        tails = np.zeros((0, 2), np.int64)
        ends = np.full(len(rows), layout.head)
        if layout.end is None:
            tail = layout.tail_sizes(rows)
            ends = layout.head + tail
            whole = ends <= sizes[chosen]
            good = whole if good is None else good & whole
            tails = np.stack([np.full(len(rows), layout.head), tail], axis=1)
        if good is not None and not good.all():
            chosen, rows, ends, tails = chosen[good], rows[good], ends[good], tails[good] if len(tails) else tails
            if not len(chosen):
                return left
        parts.append(Part(layout, chosen + first, _columns(rows, layout), sizes[chosen] - ends, tails))
        return left[~np.isin(left, chosen, assume_unique=True)] if len(chosen) < len(left) else left[:0]
