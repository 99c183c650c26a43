"""Images inside an MCAP file: where they are, so that single ones are read again without the rest of the file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from transforms.episode import ImageRef
from transforms.sources import mcap_records as records
from transforms.sources.mcap_declared import DamagedRecord
from transforms.sources.mcap_read import McapReading
from transforms.sources.ros_collect import TopicCollector
from transforms.sources.ros_definition import parse_definition
from transforms.sources.ros_image_batches import BatchImages, images_by_index
from transforms.sources.ros_images import is_depth
from transforms.sources.ros_layout import Wire
from transforms.sources.ros_topics import Topic
from transforms.sources.ros_wire import Decoder
from transforms.stores.paths import located


class ImageFile(msgspec.Struct, frozen=True):
    """A file beside the uri, and the numbers of the topic's channels in it."""

    name: str
    channels: tuple[int, ...]


class ImagePlace(msgspec.Struct, frozen=True):
    """A topic's images: `batches` are `[file, at, size, images]`; `order` is that of log time where it is another."""

    topic: str
    kind: str
    wire: Wire
    definition: str
    files: tuple[ImageFile, ...]
    batches: tuple[tuple[int, int, int, int], ...]
    order: tuple[int, ...] = ()


def image_ref(uri: str, readings: Sequence[McapReading], topic: Topic, collector: TopicCollector) -> ImageRef:
    """A reference to all images of a topic, hashed as they are stored, in the order of the files."""
    files = tuple(
        ImageFile(
            reading.path.name,
            tuple(n for n, channel in sorted(reading.channels.items()) if channel.topic == topic.name),
        )
        for reading in readings
    )
    numbers = {str(reading.path): index for index, reading in enumerate(readings)}
    batches = tuple(
        (numbers[batch.file], batch.at, batch.size, count)
        for batch, count in zip(collector.batches, collector.sizes, strict=True)
        if count
    )
    text, order = collector.definition_text, collector.file_order()
    place = ImagePlace(topic.name, topic.kind, collector.wire, text, files, batches, order)
    encoded = msgspec.json.encode(place).decode()
    return ImageRef(
        uri, encoded, topic.count, collector.digest.hexdigest(), is_depth(topic), n_bytes=collector.image_bytes
    )


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Images of a topic by their index in order of log time: JPEG and PNG as stored, raw ones as PNG.

    Raises Unreadable where the file is gone or changed, IndexError for an image that the camera does not have.
    """
    place = msgspec.json.decode(ref.place, type=ImagePlace)

    def read(number: int) -> tuple[Path, Callable[[], BatchImages]]:
        file, at, size, _ = place.batches[number]
        path = located(ref.uri).with_name(place.files[file].name)
        return path, lambda: _batch(str(path), path.stat().st_mtime_ns, at, size, place, file)

    counts = [batch[3] for batch in place.batches]
    return images_by_index(ref, indices, place.topic, counts, place.order, read, (DamagedRecord,))


@lru_cache(maxsize=4)
def _batch(file: str, _mtime_ns: int, at: int, size: int, place: ImagePlace, number: int) -> BatchImages:
    """A batch's images, kept while frames of it are asked for; a file that has changed is read anew."""
    path = located(file)
    with path.open("rb") as handle:
        found = records.messages_in(records.records_at(handle, path.stat().st_size, at, size))
    rows = np.flatnonzero(np.isin(found.channel, place.files[number].channels))
    decoder = Decoder(parse_definition(place.kind, place.definition), place.wire)
    return BatchImages(decoder, place.kind, found.buffer, found.starts[rows], found.sizes[rows])
