"""Raw pixel arrays as lossless PNG, 8 or 16 bit (PNG specification, ISO/IEC 15948).

Pillow writes no 16-bit colour, which TFDS stores, so the three chunks that a PNG needs are written here.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_COLOUR = {1: 0, 3: 2, 4: 6}


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode_png(pixels: NDArray[np.generic]) -> bytes:
    """(H, W) or (H, W, C) pixels, uint8 or uint16, C of 1, 3 or 4, as PNG bytes. Raises ValueError on others."""
    image = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if image.ndim != 3 or image.shape[2] not in _COLOUR or image.dtype not in (np.uint8, np.uint16) or 0 in image.shape:
        raise ValueError(
            f"an image of shape {pixels.shape} and {pixels.dtype}; PNG takes (H, W[, 1|3|4]) of 8 or 16 bit"
        )
    height, width, channels = image.shape
    lines = np.ascontiguousarray(image.astype(image.dtype.newbyteorder(">"))).view(np.uint8).reshape(height, -1)
    filtered = np.concatenate([np.zeros((height, 1), np.uint8), lines], axis=1)  # filter type 0 before each line
    head = struct.pack(">IIBBBBB", width, height, 8 * image.dtype.itemsize, _COLOUR[channels], 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
