"""Cameras of one source as RLDS images: stored pictures byte for byte, frames of videos decoded and encoded as JPEG."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from beam_pipeline.exports.export import ExportError
from beam_pipeline.exports.rlds_features import Feature
from transforms.episode import IMAGES, VideoRef
from transforms.media import shared_decoder
from transforms.sources.png import encode_png
from transforms.stage import Unreadable

JPEG_QUALITY = 95
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}


@dataclass(frozen=True, order=True)
class ImageFacts:
    """What an encoded image's header says, as TFDS declares it."""

    height: int
    width: int
    channels: int
    dtype: str
    encoding: str


def image_facts(data: bytes, place: str) -> ImageFacts:
    """Size, channels, depth and format from the header; raises ExportError for what TFDS does not decode."""
    if data.startswith(_PNG) and len(data) >= 26:
        width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
        return ImageFacts(height, width, _PNG_CHANNELS[colour], "uint16" if depth == 16 else "uint8", "png")
    try:
        with Image.open(io.BytesIO(data)) as image:
            kind, (width, height), bands = image.format, image.size, len(image.getbands())
    except UnidentifiedImageError as error:
        raise ExportError(
            f"{place}: its {len(data)} bytes, beginning with {data[:8]!r}, are no image that TFDS reads; "
            "leave the camera's source out with --source"
        ) from error
    if kind != "JPEG":
        raise ExportError(f"{place} is {kind}; TFDS reads JPEG and PNG: leave its source out with --source")
    return ImageFacts(height, width, bands, "uint8", "jpeg")


def black(facts: ImageFacts) -> bytes:
    """A black image that stands where a step has none: every step of an RLDS record has every feature."""
    if facts.encoding == "jpeg":
        return _jpeg(np.zeros((facts.height, facts.width, facts.channels), np.uint8))
    channels = facts.channels if facts.channels in (1, 3, 4) else 1
    return encode_png(np.zeros((facts.height, facts.width, channels), np.dtype(facts.dtype)))


def _jpeg(pixels: NDArray[np.generic]) -> bytes:
    out = io.BytesIO()
    shown = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(shown).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


@dataclass
class CameraWriter:
    """One camera over all episodes of a source: gives each episode's images and keeps what they turned out to be."""

    name: str
    key: str
    folder: Path
    first: ImageFacts
    seen: set[ImageFacts] = field(default_factory=set)
    n_black: int = 0

    def images(self, steps: pa.Table, episode_id: str) -> list[bytes]:
        """T encoded images; raises ExportError where a video's frames cannot be had."""
        rows = steps.column(IMAGES + self.name).to_pylist()
        found: list[bytes | None] = [(row or {}).get("bytes") for row in rows]
        paths = sorted({row["path"] for row in rows if row and not row.get("bytes") and row.get("path")})
        for path in paths:
            at = [i for i, row in enumerate(rows) if row and row.get("path") == path and row["timestamp"] is not None]
            wanted = np.round(np.array([rows[i]["timestamp"] for i in at]) * 1e9).astype(np.int64)
            for i, image in zip(at, self._frames(path, wanted, episode_id), strict=True):
                found[i] = image
        return [self._checked(image, episode_id) for image in found]

    def _checked(self, image: bytes | None, episode_id: str) -> bytes:
        if not image:
            self.n_black += 1
            image = black(self.first)
        self.seen.add(image_facts(image, f"camera {self.name} of {episode_id}"))
        return image

    def _frames(self, path: str, wanted: NDArray[np.int64], episode_id: str) -> list[bytes]:
        """The frames at `wanted` (N,) ns of a video of the curated folder, each encoded once."""
        depth = self.first.dtype == "uint16"
        ref = VideoRef(str(self.folder / path), int(wanted.min()), int(wanted.max()), depth=depth)
        encoded: dict[int, bytes] = {}
        needed = set(wanted.tolist())
        try:
            for pts_ns, pixels in _decoded(ref):
                if pts_ns in needed:
                    encoded[pts_ns] = encode_png(pixels) if depth else _jpeg(pixels)
        except Unreadable as error:
            raise ExportError(f"camera {self.name} of {episode_id}: {error}; curate the source again") from error
        lost = sorted(needed - set(encoded))
        if lost:
            raise ExportError(
                f"camera {self.name} of {episode_id}: {path} has no frame at {lost[0]} ns, which a step shows; "
                "the file was changed: curate the source again"
            )
        return [encoded[pts_ns] for pts_ns in wanted.tolist()]

    def feature(self) -> Feature:
        """The camera as features.json declares it, by all images written."""
        sizes = [(f.height, f.width, f.channels) for f in sorted(self.seen)]
        shape = tuple(part[0] if len(set(part)) == 1 else None for part in zip(*sizes, strict=True))
        encodings = {f.encoding for f in self.seen}
        dtype = "uint16" if {f.dtype for f in self.seen} == {"uint16"} else "uint8"
        return Feature(self.key, "image", dtype, shape, encoding=encodings.pop() if len(encodings) == 1 else "")


def _decoded(ref: VideoRef) -> Iterator[tuple[int, NDArray[np.generic]]]:
    for chunk in shared_decoder().decode_frames(ref):
        yield from zip(chunk.pts_ns.tolist(), chunk.frames, strict=True)


def first_facts(row: dict[str, Any], folder: Path, depth: bool, place: str) -> ImageFacts:
    """What the first frame that a camera shows is like: of a picture by its header, of a video by its packets."""
    if row.get("bytes"):
        return image_facts(row["bytes"], place)
    try:
        info = shared_decoder().probe(str(folder / row["path"]))
    except Unreadable as error:
        raise ExportError(f"{place}: {error}; curate the source again") from error
    return ImageFacts(
        info.height, info.width, 1 if depth else 3, "uint16" if depth else "uint8", "png" if depth else "jpeg"
    )


def black_notes(cameras: Sequence[CameraWriter]) -> list[str]:
    """A line for each camera that had no image at some steps."""
    return [
        f"camera {camera.name}: {camera.n_black} steps have no image and hold a black one"
        for camera in cameras
        if camera.n_black
    ]
