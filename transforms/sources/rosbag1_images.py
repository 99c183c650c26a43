"""Images inside a ROS 1 bag: where they are, so that single ones are read again without the rest of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from transforms.episode import ImageRef
from transforms.sources import rosbag1_records as records
from transforms.sources.ros_collect import TopicCollector
from transforms.sources.ros_definition import parse_definition
from transforms.sources.ros_image_batches import BatchImages, images_by_index
from transforms.sources.ros_images import is_depth
from transforms.sources.ros_topics import Topic
from transforms.sources.ros_wire import Decoder
from transforms.sources.rosbag1_messages import messages_in
from transforms.sources.rosbag1_read import BagReading
from transforms.stores.paths import located


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
    path = located(ref.uri)

    def read(number: int) -> tuple[Path, Callable[[], BatchImages]]:
        at, size, _ = place.batches[number]
        return path, lambda: _batch(str(path), path.stat().st_mtime_ns, at, size, place)

    counts = [batch[2] for batch in place.batches]
    return images_by_index(ref, indices, place.topic, counts, place.order, read, (records.DamagedRecord,))


@lru_cache(maxsize=4)
def _batch(file: str, _mtime_ns: int, at: int, size: int, place: ImagePlace) -> BatchImages:
    """A batch's images, kept while frames of it are asked for; a file that has changed is read anew."""
    path = located(file)
    with path.open("rb") as handle:
        if size:
            handle.seek(at)
            unpacked = handle.read(size)
        else:
            record = records.record_at(handle, at, path.stat().st_size)
            unpacked, _ = records.chunk_records(record, records.content(handle, record))
    found = messages_in(unpacked)
    rows = np.flatnonzero(np.isin(found.connection, place.connections))
    decoder = Decoder(parse_definition(place.kind, place.definition), "ros1")
    return BatchImages(decoder, place.kind, found.buffer, found.starts[rows], found.sizes[rows])
