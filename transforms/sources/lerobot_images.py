"""Images that a LeRobot Parquet file holds as `struct<bytes, path>`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from transforms.episode import Finding, ImageRef
from transforms.sources.lerobot_plan import finding
from transforms.sources.lerobot_tables import OpenTable, open_table, slices
from transforms.sources.lerobot_videos import camera_name
from transforms.stores.paths import located
from transforms.unreadable import Unreadable


class ImagePlace(msgspec.Struct, frozen=True):
    """Where a camera's images lie: rows of a column; `root` is where images outside the file are looked for."""

    root: str
    column: str
    ranges: tuple[tuple[int, int], ...]


def _encoded(root: Path, column: pa.Array, name: str) -> Iterator[bytes | None]:
    """Encoded bytes of each row, or of the file that its `path` names; None where it has neither."""
    fields = {column.type.field(i).name for i in range(column.type.num_fields)}
    blobs = column.field("bytes") if "bytes" in fields else pa.nulls(len(column), pa.binary())
    paths = column.field("path") if "path" in fields else pa.nulls(len(column), pa.string())
    for blob, path, there in zip(blobs, paths, column.is_valid(), strict=True):
        if not there.as_py():
            yield None
        elif blob.is_valid:
            yield blob.as_py()
        elif path.is_valid:
            parts = PurePosixPath(path.as_py()).parts
            outside = not parts or parts[0] == "/" or ".." in parts
            file = root.joinpath(*parts) if not outside else None
            yield file.read_bytes() if file is not None and file.is_file() else None
        else:
            yield None


def _images(table: OpenTable, place: ImagePlace) -> Iterator[bytes | None]:
    for start, stop in place.ranges:
        for part in slices(table, start, stop, [place.column]):
            yield from _encoded(located(place.root), part.column(0), place.column)


def image_camera(
    root: Path, table: OpenTable, column: str, ranges: Sequence[tuple[int, int]]
) -> tuple[str, ImageRef | None, list[Finding]]:
    """Name and reference of an image feature, hashed over the encoded bytes in order; what is absent is a finding."""
    name = camera_name(column)
    index = table.schema.get_field_index(column)
    if index < 0 or not pa.types.is_struct(table.schema.field(index).type):
        text = f"{name}: declared as images; no column of bytes in {Path(table.key[0]).name}"
        return name, None, [finding("integrity.camera_absent", 1, text, "cameras")]
    place = ImagePlace(str(root), column, tuple(ranges))
    digest = xxhash.xxh3_128()
    count, absent, size = 0, 0, 0
    for image in _images(table, place):
        count += 1
        absent += image is None
        digest.update(image or b"")
        size += len(image or b"")
    if absent == count:
        return name, None, [finding("integrity.camera_absent", 1, f"{name}: all {count} images are absent", "cameras")]
    found = (
        [finding("integrity.image_missing", absent, f"{name}: {absent} of {count} images", "frames")] if absent else []
    )
    return (
        name,
        ImageRef(table.key[0], msgspec.json.encode(place).decode(), count, digest.hexdigest(), n_bytes=size),
        found,
    )


def read_images(ref: ImageRef, indices: Sequence[int]) -> list[bytes]:
    """Encoded images by their row within the episode, in the order asked; raises Unreadable, IndexError."""
    place = msgspec.json.decode(ref.place, type=ImagePlace)
    table = open_table(ref.uri)
    ends = np.cumsum([stop - start for start, stop in place.ranges])
    images = []
    for index in indices:
        if not 0 <= index < ref.count:
            raise IndexError(f"{ref.uri}: image {index} of {place.column}; the episode has {ref.count}")
        part = int(np.searchsorted(ends, index, side="right"))
        row = place.ranges[part][1] - (int(ends[part]) - index)
        batch = next(slices(table, row, row + 1, [place.column]), None)
        image = None if batch is None else next(_encoded(located(place.root), batch.column(0), place.column))
        if image is None:
            raise Unreadable("absent", f"{ref.uri}: image {index} of {place.column} is absent; its row holds no bytes")
        images.append(image)
    return images
