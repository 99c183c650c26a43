"""MinHash signatures by whole-array operations on any array library: NumPy, CuPy, torch.

Documents of like length (within a quarter octave) are worked on as one rectangle, short rows filled up with a shingle
of their own, which a minimum does not see.
"""

from __future__ import annotations

from typing import Any

import array_api_compat

from transforms.deduplication.minhash import OPPOSITE, Permutations

_LOW = 0xFFFFFFFF
_RECTANGLE = 1 << 24
"""Shingles of one rectangle: 64 MiB, and as much again for each temporary array."""


def mix32(shingles: Any) -> Any:
    """(S,) int64 shingles folded to 32 bits and mixed as `minhash.mix32` does, as int32."""
    xp = array_api_compat.array_namespace(shingles)
    x = (shingles ^ (shingles >> 32)) & _LOW
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _LOW
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _LOW
    x = x ^ (x >> 16)
    return xp.astype((x ^ (1 << 31)) - (1 << 31), xp.int32)


def array_signatures(shingles: Any, offsets: Any, perms: Permutations) -> Any:
    """(N, P) int32 signatures of N documents: `shingles` (S,) int64, `offsets` (N + 1,) int64, on one device.

    Every document has a shingle: `minhash.signatures` says which one lacks it.
    """
    xp = array_api_compat.array_namespace(shingles, offsets)
    device = array_api_compat.device(shingles)
    mixed = mix32(shingles)
    sizes = offsets[1:] - offsets[:-1]
    out = xp.empty((sizes.shape[0], perms.count), dtype=xp.int32, device=device)
    if not sizes.shape[0]:
        return out
    octaves = xp.astype(xp.ceil(xp.log2(xp.astype(sizes, xp.float64)) * 4), xp.int64)
    for octave in range(int(xp.max(octaves)) + 1):
        alike = xp.nonzero(octaves == octave)[0]
        if not alike.shape[0]:
            continue
        columns = xp.arange(int(xp.max(sizes[alike])), device=device)
        step = max(_RECTANGLE // columns.shape[0], 1)
        for start in range(0, alike.shape[0], step):
            rows = alike[start : start + step]
            places = xp.minimum(offsets[rows][:, None] + columns, offsets[rows + 1][:, None] - 1)
            out[rows] = rectangle_signatures(mixed[places], perms)
    return out


def rectangle_signatures(x: Any, perms: Permutations) -> Any:
    """(N, P) signatures of an (N, L) rectangle of mixed int32 shingles."""
    xp = array_api_compat.array_namespace(x)
    least, across_least, most, across_most = [], [], [], []
    for a, b in zip(perms.a.tolist(), perms.b.tolist(), strict=True):
        place = x * a + b
        across = place ^ int(OPPOSITE)
        least.append(xp.min(place, axis=1))
        across_least.append(xp.min(across, axis=1))
        most.append(~xp.max(place, axis=1))
        across_most.append(~xp.max(across, axis=1))
    return xp.stack((least + across_least + most + across_most)[: perms.count], axis=1)
