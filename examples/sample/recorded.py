"""An episode in its place: what a writer needs of it, in the conventions that most formats share."""

from __future__ import annotations

from dataclasses import dataclass, field

from examples.sample.draw import Frames
from examples.sample.flaws import Slot, Speeding
from examples.sample.robot import Floats
from examples.sample.simulate import Simulated


@dataclass(frozen=True)
class Recorded:
    """A slot filled: the episode as it is written there. `instruction` is None where it was left out."""

    slot: Slot
    episode: Simulated
    frames: dict[str, Frames] = field(default_factory=dict)
    speeding: Speeding | None = None

    @property
    def instruction(self) -> str | None:
        """What the robot was told."""
        return None if self.slot.no_instruction else self.episode.instruction

    @property
    def tool_xyzw(self) -> Floats:
        """(T, 7) tool pose with the quaternion's real part last."""
        return self.episode.tool[:, [0, 1, 2, 4, 5, 6, 3]]

    @property
    def cube_xyzw(self) -> Floats:
        """(T, 7) cube pose with the quaternion's real part last."""
        return self.episode.qpos[:, [0, 1, 2, 4, 5, 6, 3]]
