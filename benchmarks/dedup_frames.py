"""Frames embedded a second through the pipeline, decoded as they are wanted, against bare loops that decode too.

All sides take the same 8 frames of each 10 s video (640x480, H.264, a keyframe every 60 frames) to the same
EfficientNet-lite0 in calls of 8, one thread for the decoder and one for the model. The bare loop decodes by PyAV in its
own process, in turn with the model: of two cores it uses one. The tuned one decodes two ahead in a thread, and so uses
both, as the pipeline does: it is the rival to look at. A rate is (frames of many - frames of few) / (seconds of many -
seconds of few), each run from building the job to its end, so what every run pays once (Ray's and a worker's start,
loading the model) cancels on all sides; it is printed. The sides take turns, ROUNDS times; a ratio is the median of the
rounds' ratios, whose spread is printed. Corpus: `write_corpus`, seed 5.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np

from benchmarks.dedup_frames_arms import FRAMES_PER_EPISODE, RATE_HZ, STEPS
from benchmarks.harness import Bar, Row

HEIGHT, WIDTH = 480, 640
DISTINCT = 6
SEED = 5
ROUNDS = 3
RATIO = "frames/s through the pipeline over the bare loop"
AHEAD = "frames/s through the pipeline over the bare loop that decodes ahead"
_SIDES = {"pipeline": "through the pipeline", "turn": "bare loop", "ahead": "bare loop, decoding ahead in a thread"}


def write_corpus(folder: Path) -> None:
    """DISTINCT videos of boxes that move over smooth noise, with a little noise of a sensor."""
    rng = np.random.default_rng(SEED)
    for index in range(DISTINCT):
        coarse = rng.integers(40, 200, (12, 16, 3)).astype(np.float32)
        ground = np.kron(coarse, np.ones((HEIGHT // 12, WIDTH // 16, 1), np.float32))
        noise = rng.normal(0, 3, (4, HEIGHT, WIDTH, 3)).astype(np.float32)
        speed = rng.integers(2, 6, (4, 2))
        colours = rng.integers(0, 256, (4, 3))
        with av.open(str(folder / f"{index}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=RATE_HZ, options={"g": "60", "preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for step in range(STEPS):
                image = ground + noise[step % 4]
                for box, colour in zip(speed * step % (HEIGHT - 80), colours, strict=True):
                    image[box[0] : box[0] + 80, box[1] : box[1] + 80] = colour
                frame = av.VideoFrame.from_ndarray(np.clip(image, 0, 255).astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())


def run_side(side: str, folder: Path, count: int, few: int) -> dict[str, list[float]]:
    """What an arm printed; raises RuntimeError with its last lines where it failed."""
    command = [sys.executable, "-m", "benchmarks.dedup_frames_arms", side, str(folder), str(count), str(few)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    found: dict[str, list[float]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def _rates(found: dict[str, dict[str, list[float]]], frames: int) -> dict[str, float]:
    """Side -> frames/s of one round. Raises RuntimeError where the sides gave other vectors."""
    digests = {side: runs["many"][1] for side, runs in found.items()}
    if len(set(digests.values())) != 1:
        raise RuntimeError(f"the sides gave other vectors: {digests}")
    return {side: frames / (runs["many"][0] - runs["few"][0]) for side, runs in found.items()}


def rows(quick: bool) -> list[Row]:
    """Every side in each round; the stored vectors of all must be the same."""
    count, few, rounds = (6, 2, 1) if quick else (40, 4, ROUNDS)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_corpus(folder)
        runs = [{side: run_side(side, folder, count, few) for side in _SIDES} for _ in range(rounds)]
    rates = [_rates(found, (count - few) * FRAMES_PER_EPISODE) for found in runs]
    table = []
    for side, name in _SIDES.items():
        seconds = [f"{found[side]['many'][0]:.1f}" for found in runs]
        once = f"{runs[0][side]['few'][0]:.1f} s, the first {few} in {runs[0][side]['first'][0]:.1f} s"
        note = f"{count} episodes in {', '.join(seconds)} s, {few} in {once}"
        table.append(Row(f"frames/s, {name}", float(np.median([rate[side] for rate in rates])), "1/s", note))
    for name, rival in ((RATIO, "turn"), (AHEAD, "ahead")):
        ratios = [rate["pipeline"] / rate[rival] for rate in rates]
        note = f"{min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds; same vectors, byte for byte"
        table.append(Row(name, float(np.median(ratios)), "x", note))
    return table


def bars() -> list[Bar]:
    """The pipeline costs at most a twentieth."""
    return [Bar(RATIO, "min", 0.95), Bar(AHEAD, "min", 0.95, binding=False)]
