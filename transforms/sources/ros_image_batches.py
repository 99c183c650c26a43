"""Single images of a topic out of a bag whose messages are read in batches: which batch, and which message in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transforms.episode import ImageRef
from transforms.sources.ros_images import UnreadableImage, encoded_image
from transforms.sources.ros_layout import Rows
from transforms.sources.ros_wire import Decoder
from transforms.unreadable import Unreadable


class BatchImages:
    """The messages of one topic in one batch, found at `starts` (N,) of `sizes` (N,) bytes in a buffer."""

    def __init__(self, decoder: Decoder, kind: str, buffer: NDArray[np.uint8], starts: Rows, sizes: Rows) -> None:
        self._kind, self._buffer, self._starts = kind, buffer, starts
        self._parts, _, _ = decoder.decode(buffer, starts, sizes)
        self._where = sorted(
            (int(row), number, place) for number, part in enumerate(self._parts) for place, row in enumerate(part.rows)
        )

    def image(self, number: int) -> bytes:
        """The image of one of its whole messages. Raises IndexError where it has fewer, and UnreadableImage."""
        row, part_number, place = self._where[number]
        part = self._parts[part_number]
        offset, size = part.tails[place].tolist()
        begin = int(self._starts[row]) + offset
        return encoded_image(self._kind, part.layout, part.columns, place, self._buffer[begin : begin + size].tobytes())


def images_by_index(
    ref: ImageRef,
    indices: Sequence[int],
    topic: str,
    counts: Sequence[int],
    order: Sequence[int],
    read: Callable[[int], tuple[Path, Callable[[], BatchImages]]],
    damage: tuple[type[Exception], ...],
) -> list[bytes]:
    """Images by their index in order of log time: `counts` are those of each batch, `order` their places if others.

    `read` gives a batch's file and what reads it. Raises Unreadable `corrupt` where the file is gone, changed, or read
    with `damage`, IndexError for an image that the camera does not have.
    """
    ends = np.cumsum(counts)
    refused: tuple[type[Exception], ...] = (*damage, UnreadableImage, IndexError, OSError)
    made: list[bytes] = []
    for index in indices:
        if not 0 <= index < ref.count:
            raise IndexError(f"{Path(ref.uri).name}: image {index} of {topic}, which has {ref.count}")
        stored = order[index] if order else index
        number = int(np.searchsorted(ends, stored, side="right"))
        path, batch = read(number)
        try:
            made.append(batch().image(stored - (int(ends[number]) - counts[number])))
        except refused as error:
            detail = f"{path.name}: image {index} of {topic}: {error}; copy or record the file again"
            raise Unreadable("corrupt", detail) from error
    return made
