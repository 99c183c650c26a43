"""Images inside a ROS 1 bag: where they are, so that single ones are read again without the rest of the file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from transforms.episode import ImageRef
from transforms.sources import rosbag1_records as records
from transforms.sources.ros_collect import TopicCollector
from transforms.sources.ros_definition import parse_definition
from transforms.sources.ros_images import UnreadableImage, encoded_image, is_depth
from transforms.sources.ros_topics import Topic
from transforms.sources.ros_wire import Decoder
from transforms.sources.rosbag1_messages import messages_in
from transforms.sources.rosbag1_read import BagReading
from transforms.unreadable import Unreadable


class ImagePlace(msgspec.Struct, frozen=True):
    """A topic's images: `batches` are `[at, size, images]`; `order` is that of log time where it is another."""

    topic: str
    kind: str
    definition: str
    connections: tuple[int, ...]
    batches: tuple[tuple[int, int, int], ...]
    order: tuple[int, ...] = ()


def image_ref(uri: str, reading: BagReading, topic: Topic, collector: TopicCollector) -> ImageRef:
    """A reference to all images of a topic, hashed as they are stored, in the order of the file."""
    connections = tuple(n for n, one in sorted(reading.connections.items()) if one.topic == topic.name)
    counted = zip(collector.batches, collector.sizes, strict=True)
    batches = tuple((batch.at, batch.size, count) for batch, count in counted if count)
    order = collector.file_order()
    place = ImagePlace(topic.name, topic.kind, collector.definition_text, connections, batches, order)
    encoded, digest = msgspec.json.encode(place).decode(), collector.digest.hexdigest()
    return ImageRef(uri, encoded, topic.count, digest, is_depth(topic), collector.image_bytes)


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Images of a topic by their index in order of log time: JPEG and PNG as stored, raw ones as PNG.

    Raises Unreadable where the file is gone or changed, IndexError for an image that the camera does not have.
    """
    place = msgspec.json.decode(ref.place, type=ImagePlace)
    path = Path(ref.uri)
    ends = np.cumsum([batch[2] for batch in place.batches])
    made: list[bytes] = []
    for index in indices:
        if not 0 <= index < ref.count:
            raise IndexError(f"{path.name}: image {index} of {place.topic}, which has {ref.count}")
        stored = place.order[index] if place.order else index
        number = int(np.searchsorted(ends, stored, side="right"))
        at, size, count = place.batches[number]
        try:
            batch = _batch(str(path), path.stat().st_mtime_ns, at, size, place)
            made.append(batch.image(stored - (int(ends[number]) - count), place.kind))
        except (records.DamagedRecord, UnreadableImage, IndexError, OSError) as error:
            detail = f"{path.name}: image {index} of {place.topic}: {error}; copy or record the file again"
            raise Unreadable("corrupt", detail) from error
    return made


class _Images:
    """The messages of one topic in one batch of records."""

    def __init__(self, unpacked: bytes, place: ImagePlace) -> None:
        found = messages_in(unpacked)
        rows = np.flatnonzero(np.isin(found.connection, place.connections))
        decoder = Decoder(parse_definition(place.kind, place.definition), "ros1")
        self._buffer, self._starts = found.buffer, found.starts[rows]
        self._parts, _, _ = decoder.decode(found.buffer, self._starts, found.sizes[rows])
        self._where = sorted(
            (int(row), number, place) for number, part in enumerate(self._parts) for place, row in enumerate(part.rows)
        )

    def image(self, number: int, kind: str) -> bytes:
        row, part_number, place = self._where[number]
        part = self._parts[part_number]
        offset, size = part.tails[place].tolist()
        begin = int(self._starts[row]) + offset
        return encoded_image(kind, part.layout, part.columns, place, self._buffer[begin : begin + size].tobytes())


@lru_cache(maxsize=4)
def _batch(file: str, _mtime_ns: int, at: int, size: int, place: ImagePlace) -> _Images:
    """A batch's images, kept while frames of it are asked for; a file that has changed is read anew."""
    path = Path(file)
    with path.open("rb") as handle:
        if size:
            handle.seek(at)
            return _Images(handle.read(size), place)
        record = records.record_at(handle, at, path.stat().st_size)
        return _Images(records.chunk_records(record, records.content(handle, record))[0], place)
