"""Which blocks are lost, and how a loss is told."""

from __future__ import annotations

import time
from collections.abc import Collection

import ray

from beam_pipeline.runner.driver.graph import Block

# an object that Ray neither finds nor gives up on within that time counts as lost
_PROBE_S = 5.0


def lost_among(blocks: Collection[Block], told: str = "") -> set[Block]:
    """The blocks that must be made again, those dropped behind their readers too. `told`: an object known as lost."""
    stored = [b for b in blocks if isinstance(b.payload, ray.ObjectRef)]
    lost = {b for b in blocks if b.payload is None and (b.info is None or b.info.nbytes)}
    if not stored:
        return lost
    here = ray.get_runtime_context().get_node_id()
    places = ray.experimental.get_object_locations([b.payload for b in stored])
    end = time.monotonic() + _PROBE_S
    for block in stored:
        place = places[block.payload]
        if block.payload.hex() == told:
            lost.add(block)
        elif place["did_spill"] or (place["node_ids"] and here not in place["node_ids"]):
            continue
        # once it is asked for, Ray puts an error in the place of a lost object, on this node; a look costs no copy
        elif not _can_be_read(block.payload, max(0.0, end - time.monotonic())):
            lost.add(block)
    return lost


def _can_be_read(ref: ray.ObjectRef, timeout_s: float) -> bool:
    try:
        ray.get(ref, timeout=timeout_s)
    except (ray.exceptions.ObjectLostError, ray.exceptions.GetTimeoutError):
        return False
    return True


def describe_death(error: Exception, bundle_bytes: int) -> str:
    """Why a worker ended, in a few words, and what to do where memory may be the reason."""
    remedy = (
        "give the stage more memory with the resource hint min_ram, so that fewer of its workers share a machine, "
        f"or make its bundles smaller (--ray_bundle_mb={bundle_bytes / 1e6:g})"
    )
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"out of memory: {_first_lines(error, 2)} To go on, {remedy}"
    if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
        return f"the workers' environment could not be set up: {error}"
    return f"worker died: {_first_lines(error, 20)} If the system ended it for lack of memory, {remedy}"


def _first_lines(error: Exception, count: int) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:count])
