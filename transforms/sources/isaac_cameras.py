"""Cameras inside an HDF5 demo: which datasets are images, their hash, and single frames as lossless PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

import h5py
import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from transforms.episode import Finding, ImageRef
from transforms.sources.hdf5_file import Member
from transforms.sources.png import encode_png

Kind = Literal["colour", "depth", "encoded"]
_SMALLEST_SIDE_PX = 8
_SLAB_BYTES = 1 << 20


class CameraPlace(msgspec.Struct, frozen=True):
    """Path of the dataset; `scale` turns stored depth into millimetres; `encoded` rows are padded JPEG or PNG."""

    dataset: str
    kind: Kind
    scale: float = 1.0


def image_kind(name: str, dataset: Member) -> Kind | None:
    """`colour` for (T, H, W[, 1|3|4]) u8, `depth` for (T, H, W[, 1]) u16 or float; None for other arrays.

    Sides under 8 px are no picture but small matrices, such as a pose a link.
    """
    shape = dataset.shape
    if len(shape) not in (3, 4) or min(shape[1:3]) < _SMALLEST_SIDE_PX:
        return None
    channels = shape[3] if len(shape) == 4 else 1
    if dataset.dtype == np.uint8 and channels in (1, 3, 4):
        return "colour"
    named = len(shape) == 4 or "depth" in name.lower() or "distance" in name.lower()
    return "depth" if channels == 1 and named and (dataset.dtype == np.uint16 or dataset.dtype.kind == "f") else None


def camera_of(uri: str, dataset: str, camera: str, member: Member, kind: Kind, depth_unit: str) -> ImageRef | Finding:
    """A reference to raw pixels (T, H, W[, C]), hashed; a finding where depth is stored as floats of unknown unit."""
    metric = kind == "depth" and member.dtype.kind == "f"
    if metric and depth_unit == "unknown":
        detail = f"camera {camera}: depth is stored as {member.dtype}; declare `depth_unit: m | mm` to read it"
        return Finding("load", "metadata.depth_unit", detail=detail, status="not_run")
    place = msgspec.json.encode(CameraPlace(dataset, kind, 1000.0 if metric and depth_unit == "m" else 1.0)).decode()
    return ImageRef(uri, place, member.shape[0], hash_images(member), kind == "depth", member.nbytes)


def hash_images(camera: Member) -> str:
    """xxh3-128 of the frames' stored pixels in order, as 32 hex digits, a slab at a time."""
    digest = xxhash.xxh3_128(f"{camera.shape[1:]}{camera.dtype.str}".encode())
    if camera.plain is not None:  # many times cheaper to read as bytes than as a selection
        descriptor, offset = camera.plain
        end, slab = offset + camera.nbytes, memoryview(bytearray(_SLAB_BYTES))
        while offset < end and (got := os.preadv(descriptor, [slab[: min(end - offset, _SLAB_BYTES)]], offset)):
            digest.update(slab[:got])
            offset += got
        return digest.hexdigest()
    rows = max(1, 32 * _SLAB_BYTES * camera.shape[0] // max(1, camera.nbytes))
    for start in range(0, camera.shape[0], rows):
        digest.update(np.ascontiguousarray(camera.dataset[start : start + rows]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def unpadded(row: object) -> bytes:
    """An encoded image without the zeros after it: JPEG and PNG both end in a marker that is not zero."""
    return (row if isinstance(row, bytes) else np.asarray(row, np.uint8).tobytes()).rstrip(b"\0")


def depth_mm(pixels: NDArray[np.generic], scale: float) -> NDArray[np.uint16]:
    """Depth as whole millimetres; not finite, negative and beyond 65.535 m read 0, "no measurement"."""
    scaled = np.round(np.asarray(pixels, np.float64) * scale)
    good = np.isfinite(scaled) & (scaled >= 0) & (scaled <= 65535)
    return np.where(good, scaled, 0).astype(np.uint16)


def encode_images(dataset: h5py.Dataset, place: CameraPlace, indices: Sequence[int]) -> list[bytes]:
    """The asked frames as PNG, encoded ones as they are; each is read once and only itself."""
    made: dict[int, bytes] = {}
    for index in sorted(set(indices)):
        pixels = dataset[index]
        if place.kind == "encoded":
            made[index] = unpadded(pixels)
            continue
        if place.kind == "depth":
            pixels = pixels.reshape(pixels.shape[:2])
            pixels = pixels if pixels.dtype == np.uint16 else depth_mm(pixels, place.scale)
        made[index] = encode_png(pixels)
    return [made[index] for index in indices]
