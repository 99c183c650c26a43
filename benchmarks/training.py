"""Samples per second of EpisodesDataset on a published folder: state alone, with action chunks, with pictures.

    python -m benchmarks.training out/sample

One process, no workers, samples in random order from a warm cache; CPU seconds of this process.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from beam_pipeline.curated import CuratedSet
from benchmarks.harness import Report, Row, finish, package_versions, parser, timed

STATE, ACTION = "observation.state", "action"


def measure(output: Path, source: str, seconds_between_steps: float, samples: int) -> list[Row]:
    """Rows of one source: the columns that it has are read in turn."""
    from beam_pipeline.training.episodes_dataset import EpisodesDataset

    whole = EpisodesDataset(output, sources=[source], pictures="uint8")
    cameras = [name for name in whole.columns if name.startswith("observation.images.")]
    plain = [name for name in (STATE, ACTION) if name in whole.columns]
    chunk = {ACTION: [i * seconds_between_steps for i in range(16)]}
    arms = {
        "state and action": EpisodesDataset(output, plain, sources=[source]),
        "state and 16 actions, normalised": EpisodesDataset(
            output, plain, chunk, sources=[source], normalize=dict.fromkeys(plain, "mean_std")
        ),
    }
    if cameras:
        arms[f"state, action, {cameras[0]}"] = EpisodesDataset(
            output, [*plain, cameras[0]], sources=[source], pictures="uint8"
        )
    rows = []
    for name, dataset in arms.items():
        shape = tuple(dataset[0][cameras[0]].shape) if cameras and cameras[0] in dataset.columns else None
        order = np.random.default_rng(0).integers(0, len(dataset), samples if shape is None else samples // 10).tolist()
        took = min(timed(lambda d=dataset, o=order: [d[i] for i in o]) for _ in range(3))  # type: ignore[misc]
        note = "" if shape is None else f"{shape[0]}x{shape[1]}x{shape[2]}, random order"
        rows.append(Row(f"{source}: {name}", len(order) / took, "samples/s", note))
        if shape is not None:
            start = len(dataset) // 2
            ahead = list(range(start, min(start + samples // 10, len(dataset))))
            took = min(timed(lambda d=dataset, o=ahead: [d[i] for i in o]) for _ in range(3))  # type: ignore[misc]
            size = note.removesuffix(", random order")
            rows.append(Row(f"{source}: {name}, in order", len(ahead) / took, "samples/s", size))
    return rows


def main(argv: list[str] | None = None) -> int:
    """Measure every source of a published folder; returns the exit status."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("output", type=Path, help="a published folder")
    arguments.add_argument("--samples", type=int, default=5000, help="samples an arm (pictures: a tenth)")
    arguments.add_argument("--period_s", type=float, default=0.05, help="seconds between the actions of a chunk")
    read = arguments.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    rows = [
        row
        for source in CuratedSet(read.output).sources()
        for row in measure(read.output, source, read.period_s, read.samples)
    ]
    versions = package_versions("torch", "pyarrow", "av", "pillow")
    return finish(Report("Samples of EpisodesDataset", rows, versions=versions), read.json, read.check)


if __name__ == "__main__":
    sys.exit(main())
