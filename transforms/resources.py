"""Resource hints of the project's own: `transform.with_resource_hints(gpus=0.5)`."""

from __future__ import annotations

import math

from apache_beam.transforms.resources import ResourceHint


class GpusHint(ResourceHint):
    """Share of a GPU, or number of GPUs, that one worker of a transform needs. A runner that knows none ignores it."""

    urn = "demosift:resources:gpus:v1"

    @classmethod
    def parse(cls, value: str | float) -> dict[str, bytes]:
        """The hint as Beam carries it; raises ValueError for what is no finite number from 0."""
        count = float(value)
        if not (math.isfinite(count) and count >= 0):
            raise ValueError(f"gpus is {value!r}; need a finite number of GPUs, 0 or more, such as 0.5")
        return {cls.urn: repr(count).encode("ascii")}

    @classmethod
    def get_merged_value(cls, outer_value: bytes, inner_value: bytes) -> bytes:
        """The larger of a composite's hint and its part's."""
        return max(outer_value, inner_value, key=float)


ResourceHint.register_resource_hint("gpus", GpusHint)
