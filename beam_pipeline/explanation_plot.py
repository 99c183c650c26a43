"""An episode's streams around the place that decided, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_pipeline.explanation import Explanation
from transforms.arrays import Floats, matrix
from transforms.episode import IMAGES, TIMESTAMP
from transforms.schema import END_EFFECTOR_POSE, GRIPPER, JOINT_POSITION, JOINT_VELOCITY, STATE

_WANTED = (JOINT_POSITION, JOINT_VELOCITY, END_EFFECTOR_POSE, STATE, "action", GRIPPER)
_PANELS = 4
_LINES = 12
_LEAST_AROUND_S = 1.0
"""Shown at least on each side of the place that decided."""


@dataclass(frozen=True)
class Axis:
    """Where each step (T,) stands, in `unit`, and the part of it that decided."""

    place: NDArray[np.float64]
    unit: str
    marked: tuple[float, float] | None
    cuts: tuple[float, ...]

    def window(self) -> tuple[float, float]:
        """What is shown: the place that decided and as much again on each side, or everything."""
        whole = float(np.nanmin(self.place)), float(np.nanmax(self.place))
        if self.marked is None:
            return whole
        around = max(self.marked[1] - self.marked[0], _LEAST_AROUND_S if self.unit == "s" else 20)
        return max(whole[0], self.marked[0] - around), min(whole[1], self.marked[1] + around)


def axis_of(steps: pa.Table, told: Explanation) -> Axis:
    """Seconds from the first step where steps have times, else their index."""
    count = steps.num_rows
    index = np.arange(count, dtype=np.float64)
    frames = None if told.frames is None else (float(told.frames[0]), float(told.frames[1]))
    if TIMESTAMP not in steps.column_names or steps.column(TIMESTAMP).null_count or not count:
        return Axis(index, "steps", frames, ())
    times = np.asarray(steps.column(TIMESTAMP), np.int64)
    seconds = (times - times[0]) / 1e9
    marked = None
    if told.frames is not None and told.frames[1] < count:
        marked = (float(seconds[told.frames[0]]), float(seconds[told.frames[1]]))
    elif told.interval is not None:
        marked = ((told.interval[0] - int(times[0])) / 1e9, (told.interval[1] - int(times[0])) / 1e9)
    return Axis(seconds, "s", marked, tuple((at - int(times[0])) / 1e9 for at in told.cuts_ns))


def streams_of(steps: pa.Table) -> dict[str, Floats]:
    """The columns (T, D) worth a look: canonical ones first, then the state and action as recorded."""
    found: dict[str, Floats] = {}
    others = sorted(n for n in steps.column_names if n.startswith("observation.") and not n.startswith(IMAGES))
    for name in dict.fromkeys([*_WANTED, *others]):
        if name in steps.column_names and len(found) < _PANELS:
            values = matrix(pa.concat_arrays(steps.column(name).chunks)) if steps.num_rows else None
            if values is not None and values.shape[1] and np.isfinite(values).any():
                found[name] = values
    return found


def draw(steps: pa.Table, told: Explanation, picture: Path) -> None:
    """Write the picture; raises ModuleNotFoundError naming the extra where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"plots need matplotlib ({error}); pip install 'demosift[plot]'") from error
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    axis, streams = axis_of(steps, told), streams_of(steps)
    figure, panels = plt.subplots(
        max(1, len(streams)), 1, figsize=(11, 1.2 + 2.1 * max(1, len(streams))), sharex=True, squeeze=False
    )
    low, high = axis.window()
    for panel, (name, values) in zip(panels[:, 0], streams.items(), strict=False):
        shown = (axis.place >= low) & (axis.place <= high)
        for column in range(min(values.shape[1], _LINES)):
            panel.plot(
                axis.place[shown], values[shown, column], linewidth=1, marker=".", markersize=2, label=str(column)
            )
        panel.set_ylabel(name.removeprefix("observation."), fontsize=8)
        if values.shape[1] > 1:
            panel.legend(fontsize=6, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
        for at in axis.cuts:
            panel.axvline(at, color="#9a9a9a", linestyle="--", linewidth=1)
        if axis.marked is not None:
            panel.axvspan(axis.marked[0], max(axis.marked[1], axis.marked[0] + 1e-3), color="#d9722e", alpha=0.25)
    panels[-1, 0].set_xlabel("time from the first step, s" if axis.unit == "s" else "step")
    title = told.lines[0] if len(told.lines) == 1 else f"{told.lines[0]}\n{told.lines[1][:110]}"
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.tight_layout()
    figure.savefig(picture, dpi=110)
    plt.close(figure)
