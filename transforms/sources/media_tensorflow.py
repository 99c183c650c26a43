"""Decoders of TensorFlow and tensorflow-io for what robots store and JPEG is not: EXR, 16-bit depth, sound.

For the environment of the extra [tensorflow]. tensorflow-io's EXR decoder ends the process on bytes that are no whole
EXR file, so the layout is checked before it sees them; decode what strangers wrote in a process of its own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.sources.rlds_steps import EXR, FLAC, MP3, OGG, WAV
from transforms.sources.rlds_tensorflow import tensorflow
from transforms.stage import Unreadable

_PNG = b"\x89PNG\r\n\x1a\n"
_PIXEL_TYPES = {0: "uint32", 1: "float16", 2: "float32"}
_LINES_AT_ONCE = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""Scan lines in a block, by compression (OpenEXR file layout)."""


@dataclass(frozen=True)
class ExrLayout:
    """Header of a single-part scan-line EXR file: channels with their pixel types, sorted as stored."""

    width: int
    height: int
    channels: tuple[tuple[str, str], ...]


def exr_layout(data: bytes) -> ExrLayout:
    """Header and block table of an EXR file (openexr.com, "OpenEXR File Layout").

    Raises Unreadable: `wrong_format` for other bytes and tiled or multi-part files, `truncated`, `corrupt`.
    """
    if not data.startswith(EXR) or len(data) < 8:
        raise Unreadable("wrong_format", f"{len(data)} bytes that begin with {data[:4]!r} are no EXR file")
    flags = struct.unpack_from("<I", data, 4)[0] >> 8 << 8
    if flags & 0x1A00:
        raise Unreadable(
            "wrong_format", f"EXR with flags {flags:#x}: tiles, deep data and parts are not read; use scan lines"
        )
    try:
        attributes, table = _attributes(data)
        left, top, right, bottom = struct.unpack("<4i", attributes["dataWindow"])
        lines = _LINES_AT_ONCE[attributes["compression"][0]]
        channels = _channels(attributes["channels"])
        height = bottom - top + 1
        blocks = struct.unpack_from(f"<{-(-height // lines)}Q", data, table)
        for block in blocks:
            size = struct.unpack_from("<i", data, block + 4)[0]
            if size < 0 or block + 8 + size > len(data):
                raise Unreadable(
                    "truncated", f"EXR of {len(data)} bytes: the block at {block} needs {size}; write it again"
                )
    except (struct.error, KeyError, IndexError, ValueError) as error:
        raise Unreadable("truncated", f"EXR of {len(data)} bytes ends inside its header or table ({error})") from error
    return ExrLayout(right - left + 1, height, channels)


def _attributes(data: bytes) -> tuple[dict[str, bytes], int]:
    found, at = {}, 8
    while data[at]:
        name_end = data.index(b"\0", at)
        type_end = data.index(b"\0", name_end + 1)
        size = struct.unpack_from("<i", data, type_end + 1)[0]
        start = type_end + 5
        found[data[at:name_end].decode()] = data[start : start + size]
        at = start + size
    return found, at + 1


def _channels(stored: bytes) -> tuple[tuple[str, str], ...]:
    found, at = [], 0
    while stored[at]:
        end = stored.index(b"\0", at)
        found.append((stored[at:end].decode(), _PIXEL_TYPES[struct.unpack_from("<i", stored, end + 1)[0]]))
        at = end + 17
    return tuple(found)


def decode_exr(data: bytes) -> dict[str, NDArray[np.generic]]:
    """Channel name -> (H, W) pixels as stored (float32, float16), by tensorflow-io. Raises Unreadable."""
    tensorflow()
    import tensorflow_io as tfio  # type: ignore[import-not-found,import-untyped,unused-ignore]

    layout = exr_layout(data)
    planes = {}
    for name, kind in layout.channels:
        if kind == "uint32":
            raise Unreadable("wrong_format", f"EXR channel {name!r} is uint32, which tensorflow-io does not decode")
        plane = tfio.experimental.image.decode_exr(data, 0, name, np.dtype(kind)).numpy()
        planes[name] = np.asarray(plane).reshape(layout.height, layout.width)
    return planes


def decode_depth_png(data: bytes) -> NDArray[np.uint16]:
    """(H, W) uint16 of a 16-bit PNG; raises Unreadable `wrong_format` for another depth, `corrupt` for damage."""
    tf = tensorflow()
    if not data.startswith(_PNG) or data[24:25] != b"\x10":
        raise Unreadable("wrong_format", f"{len(data)} bytes that begin with {data[:8]!r} are no 16-bit PNG")
    try:
        return np.asarray(tf.io.decode_png(data, channels=1, dtype=tf.uint16).numpy()[:, :, 0])
    except tf.errors.InvalidArgumentError as error:
        raise Unreadable("corrupt", f"a 16-bit PNG of {len(data)} bytes: {error.message}; write it again") from error


def decode_audio(data: bytes) -> NDArray[np.generic]:
    """(N, channels): int16 of WAV and FLAC, float32 in -1..1 of MP3 and Ogg, by tensorflow-io. Raises Unreadable."""
    tf = tensorflow()
    import tensorflow_io as tfio  # type: ignore[import-not-found,import-untyped,unused-ignore]

    audio = tfio.audio
    try:
        if data.startswith(WAV):
            return np.asarray(audio.decode_wav(data, dtype=tf.int16).numpy())
        if data.startswith(FLAC):
            return np.asarray(audio.decode_flac(data, dtype=tf.int16).numpy())
        if data.startswith(OGG):
            return np.asarray(audio.decode_vorbis(data).numpy())
        if data.startswith(MP3):
            return np.asarray(audio.decode_mp3(data).numpy())
    except tf.errors.InvalidArgumentError as error:
        raise Unreadable("corrupt", f"sound of {len(data)} bytes: {error.message}; write it again") from error
    raise Unreadable("wrong_format", f"{len(data)} bytes that begin with {data[:4]!r} are no WAV, FLAC, MP3 or Ogg")
