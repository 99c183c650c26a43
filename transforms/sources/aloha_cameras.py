"""Cameras of an ALOHA file: raw pixels, or JPEGs padded with zeros to one length, whatever attribute `compress` says.

The recorder pads each JPEG to the longest of the episode and writes the lengths to `/compress_len`, a row a camera, in
an order of cameras that the file does not keep. A JPEG ends in a marker, so its length is where the zeros begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import h5py
import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from transforms.episode import Finding, ImageRef
from transforms.sources.aloha_plan import IMAGES_GROUP
from transforms.sources.hdf5_file import Member
from transforms.sources.isaac_cameras import CameraPlace, camera_of, image_kind, unpadded
from transforms.unreadable import Unreadable

COMPRESS_LEN = "compress_len"
_JPEG, _JPEG_END, _PNG = b"\xff\xd8\xff", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_SLAB_BYTES = 32 << 20
_SMALLEST_ROW = 64


@dataclass(frozen=True, eq=False)
class Camera:
    """A camera's reference; of encoded images also their lengths (T,) in bytes, 0 where a row holds none."""

    ref: ImageRef
    lengths: NDArray[np.int64] | None = None


def is_encoded(member: Member, named: bool) -> bool:
    """Whether a dataset holds encoded images: (T, P) u8, or (T,) of byte strings or u8 arrays.

    Where its place does not say so (`named`), the first row must begin as a JPEG or PNG does.
    """
    rows = len(member.shape) == 2 and member.dtype == np.uint8 and member.shape[1] >= _SMALLEST_ROW
    texts = len(member.shape) == 1 and (member.dtype.kind == "S" or h5py.check_vlen_dtype(member.dtype) == np.uint8)
    return (rows or texts) and (named or unpadded(member.dataset[0]).startswith((_JPEG, _PNG)))


def camera(uri: str, name: str, camera_name: str, member: Member, depth_unit: str) -> Camera | Finding | None:
    """The camera that a dataset below `observations` holds; a finding where it cannot be read; None for no camera.

    Raises Unreadable `corrupt` where an encoded frame is neither a whole JPEG nor a whole PNG.
    """
    kind = image_kind(name, member)
    if kind is not None:
        ref = camera_of(uri, name, camera_name, member, kind, depth_unit)
        return ref if isinstance(ref, Finding) else Camera(ref)
    if not is_encoded(member, name.startswith(IMAGES_GROUP)):
        return None
    digest, sizes = xxhash.xxh3_128(b"encoded"), np.zeros(member.shape[0], np.int64)
    for step, image in enumerate(_encoded(member)):
        if image and not _is_whole(image):
            why = f"frame {step} of {len(image)} bytes begins {image[:4].hex()} and ends {image[-4:].hex()}"
            raise Unreadable("corrupt", f"{uri} {name}: {why}, which is no whole JPEG or PNG; record it again")
        sizes[step] = len(image)
        digest.update(len(image).to_bytes(8, "little") + image)
    if not sizes.any():
        detail = f"{camera_name}: none of the {len(sizes)} rows holds an image"
        return Finding("load", "integrity.camera_absent", 1.0, "cameras", detail=detail)
    place = msgspec.json.encode(CameraPlace(name, "encoded")).decode()
    return Camera(ImageRef(uri, place, len(sizes), digest.hexdigest(), n_bytes=int(sizes.sum())), sizes)


def _encoded(member: Member) -> Iterator[bytes]:
    """Each row without its padding, a slab of rows at a time."""
    count = member.shape[0]
    rows = max(1, _SLAB_BYTES * count // max(1, member.nbytes))
    for start in range(0, count, rows):
        yield from map(unpadded, member.dataset[start : start + rows])


def _is_whole(image: bytes) -> bool:
    if image.startswith(_JPEG):
        return image.endswith(_JPEG_END)
    return image.startswith(_PNG) and image.endswith(_PNG_END)


def camera_findings(
    cameras: Mapping[str, Camera], stated: bool | None, lengths: NDArray[np.generic] | None, where: str
) -> Iterator[Finding]:
    """What attribute `compress` and dataset `compress_len` (C, T) say, where the images say otherwise."""
    encoded = {name: one.lengths for name, one in cameras.items() if one.lengths is not None}
    colour = [name for name, one in cameras.items() if not one.ref.depth]
    wrong = [name for name in colour if stated is not None and (name in encoded) != stated]
    if wrong:
        kind = "raw pixels" if stated else "encoded"
        detail = f"{where}: `compress` is {stated} and {', '.join(wrong)} hold {kind}; read as stored"
        yield Finding("load", "metadata.compress", float(len(wrong)), "cameras", detail=detail)
    for name, sizes in sorted(encoded.items()):
        absent = np.flatnonzero(sizes == 0)
        if len(absent):
            detail = f"{name}: {len(absent)} of {len(sizes)} images are absent, the first of step {absent[0]}"
            yield Finding("load", "integrity.image_missing", float(len(absent)), "frames", detail=detail)
    if encoded:
        detail = f"{', '.join(sorted(encoded))}: kept as stored; OpenCV writes RGB arrays with red and blue swapped"
        yield Finding("load", "metadata.channel_order", detail=detail, status="not_run")
    if lengths is not None and encoded:
        yield from _length_findings(encoded, lengths, where)


def _length_findings(
    encoded: Mapping[str, NDArray[np.int64]], lengths: NDArray[np.generic], where: str
) -> Iterator[Finding]:
    if lengths.ndim != 2 or any(lengths.shape[1] != len(sizes) for sizes in encoded.values()):
        detail = f"{where}: compress_len has shape {lengths.shape}; need a row a camera and a column a step"
        yield Finding("load", "metadata.compress_len", None, detail=detail)
        return
    if lengths.shape[0] > len(encoded):
        detail = f"{where}: compress_len has rows for {lengths.shape[0]} cameras, {len(encoded)} hold encoded images"
        yield Finding(
            "load", "integrity.camera_absent", float(lengths.shape[0] - len(encoded)), "cameras", detail=detail
        )
    for name, sizes in sorted(encoded.items()):
        differing = min((int((row != sizes).sum()) for row in np.asarray(lengths)), default=len(sizes))
        if differing:
            detail = f"{name}: its images' lengths fit no row of compress_len, the best on all but {differing} steps"
            yield Finding("load", "metadata.compress_len", float(differing), "steps", detail=detail)
