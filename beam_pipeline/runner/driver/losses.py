"""Which blocks are lost, and how a loss is told."""

from __future__ import annotations

from collections.abc import Collection

import ray

from beam_pipeline.runner.driver.graph import Block

# an object that Ray neither brings nor gives up on within that time counts as lost
_PROBE_S = 5.0


def lost_among(blocks: Collection[Block], told: str = "") -> set[Block]:
    """The blocks that must be made again, those dropped behind their readers too. `told`: an object known as lost."""
    lost = {b for b in blocks if b.payload is None and (b.info is None or b.info.nbytes)}
    stored = {b.payload: b for b in blocks if isinstance(b.payload, ray.ObjectRef)}
    if not stored:
        return lost
    here = ray.get_runtime_context().get_node_id()
    places = ray.experimental.get_object_locations(list(stored))
    lost |= {block for ref, block in stored.items() if ref.hex() == told}
    # once a lost object is asked for, Ray puts an error in its place on this node; a look at it costs no copy
    suspects = [
        ref
        for ref, block in stored.items()
        if block not in lost
        and not places[ref]["did_spill"]
        and (not places[ref]["node_ids"] or here in places[ref]["node_ids"])
    ]
    if suspects:
        found, missing = ray.wait(suspects, num_returns=len(suspects), timeout=_PROBE_S)
        lost |= {stored[ref] for ref in [*missing, *filter(_is_error, found)]}
    return lost


def _is_error(ref: ray.ObjectRef) -> bool:
    try:
        ray.get(ref)
    except ray.exceptions.ObjectLostError:
        return True
    return False


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
