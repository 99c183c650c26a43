"""Make the sample: `python -m examples.make_sample DIR --seed 7`. Deterministic; takes seconds."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from examples.sample import truth, write_isaac, write_lerobot, write_rlds
from examples.sample.draw import Frames, Painter
from examples.sample.flaws import (
    ISAAC,
    LEROBOT,
    RLDS,
    FlawSizes,
    Slot,
    count_simulated,
    drive_too_fast,
    freeze,
    plan,
)
from examples.sample.recorded import Recorded
from examples.sample.robot import FOLDER
from examples.sample.simulate import Simulated, simulate

EPISODES = 12


def record(slots: Sequence[Slot], pool: Sequence[Simulated], seed: int, sizes: FlawSizes) -> list[Recorded]:
    """Fill the slots: spoil what is to be spoilt and draw what the formats with pictures need."""
    painter = Painter()
    drawn: dict[int, dict[str, Frames]] = {}
    filled = []
    for slot in slots:
        episode, speeding = pool[slot.simulated], None
        if slot.speeding:
            episode, speeding = drive_too_fast(episode, sizes, seed)
        if slot.source != ISAAC and episode.index not in drawn:
            drawn[episode.index] = painter.frames(episode.qpos, episode.colour)
        frames = freeze(drawn.get(episode.index, {}), slot.frozen) if slot.source != ISAAC else {}
        filled.append(Recorded(slot, episode, frames, speeding))
    return filled


def make_sample(folder: Path, seed: int, episodes: int = EPISODES, sizes: FlawSizes | None = None) -> None:
    """Write three datasets, sample.yaml, the robot's URDF and the truth to a new or empty folder.

    Raises FileExistsError where the folder holds anything.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; name a new folder, or remove this one first")
    sizes = sizes or FlawSizes()
    pool = simulate(count_simulated(episodes), seed)
    dealt = plan(pool, episodes, seed, sizes)
    recorded = record(dealt.slots, pool, seed, sizes)
    folder.mkdir(parents=True, exist_ok=True)
    write_rlds.write(folder / "rlds", _of(recorded, RLDS), seed, sizes.kept_share)
    write_isaac.write(folder / "isaac", _of(recorded, ISAAC))
    write_lerobot.write(folder / "lerobot", _of(recorded, LEROBOT))
    truth.write(folder, recorded, dealt, seed, sizes)
    shutil.copyfile(FOLDER / "panda.urdf", folder / "panda.urdf")
    config = (FOLDER.parent / "sample.yaml").read_text(encoding="utf-8")
    (folder / "sample.yaml").write_text(config.replace("${SAMPLE}/", ""), encoding="utf-8")


def _of(recorded: Sequence[Recorded], source: str) -> list[Recorded]:
    return [one for one in recorded if one.slot.source == source]


def main(arguments: Sequence[str]) -> int:
    """The command line; 2 where an argument cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m examples.make_sample", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--episodes", type=int, default=EPISODES, help="whole episodes per format")
    for size in fields(FlawSizes):
        flag = "--" + size.name.replace("_", "-")
        parser.add_argument(flag, type=type(size.default), default=size.default, help=f"default {size.default}")
    given = parser.parse_args(arguments)
    try:
        sizes = FlawSizes(**{size.name: getattr(given, size.name) for size in fields(FlawSizes)})
        make_sample(given.folder, given.seed, given.episodes, sizes)
    except (FileExistsError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
