"""Swapped instructions among BridgeData's 25 episodes of four tasks: do they stand out by what moves alike?

    ROBOT_DATA=FOLDER python -m benchmarks.grounding [--draws 200] [--seed 31] [--json FILE] [--check]

In each draw a tenth of the episodes (three) get the instruction of another task: of any, of one with the same verb
("put carrot on plate" for "put cup ... into sink"), or of one with another verb. AUROC: the chance that a swapped one
agrees less than one that is not. Precision: how many of the three that agree least were swapped. Beside
`grounding.text_agreement` an arm without a text model: the share of the nearest whose text is the same to the letter.
BridgeData words a task one way alone; in the last rows each episode has one of three wordings, two of them ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from transforms.conventions import Embodiment, Source
from transforms.handlers.blocks import TextBlock
from transforms.handlers.embedding import embed
from transforms.handlers.text_embedding import TextEmbeddingHandler
from transforms.instruction_agreement import agreements, nearest, path_of
from transforms.instruction_grounding import InstructionGroundingParams
from transforms.loader import ReadRecording, plan

Floats = NDArray[np.float64]
SHARE = 0.1
ANY, SAME, OTHER = "any other task", "same verb, other object", "another verb"
REWORDED = "any other task, three wordings each"
WORDINGS = {
    "flip pot upright which is in sink": ("turn the pot in the sink the right way up", "set the sink's pot upright"),
    "put carrot on plate": ("place the carrot onto the plate", "move the carrot to the dish"),
    "put cup from counter or drying rack into sink": ("move the cup into the sink", "set the mug down in the basin"),
    "turn lever vertical to front": ("rotate the handle until it points forward", "swing the lever to the front"),
}


def episodes(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Instruction and path (N, D) of each episode."""
    source = Source("bridge", str(folder / "rlds/bridge_dataset/1.0.0"), splits=("train",))
    reader = ReadRecording({"bridge": source}, {"": Embodiment()})
    texts, paths = [], []
    for ref in plan(source):
        (recording,) = reader.process_element(ref)
        (steps,) = recording.streams.values()
        texts.append(recording.utterances[0].text)
        paths.append(np.frombuffer(path_of(steps), "<f4"))
    return texts, np.stack(paths)


def swap(true: Sequence[str], how: str, rng: np.random.Generator) -> tuple[list[str], NDArray[np.int64]]:
    """Labels of which a tenth are another task's, and which."""

    def others(text: str) -> list[str]:
        found = sorted({t for t in true if t != text})
        alike = [t for t in found if t.split()[0] == text.split()[0]]
        return {SAME: alike, OTHER: [t for t in found if t not in alike]}.get(how, found)

    able = [i for i, text in enumerate(true) if others(text)]
    chosen = rng.choice(able, int(np.ceil(SHARE * len(true))), replace=False)
    labels = list(true)
    for i in chosen:
        labels[i] = str(rng.choice(others(true[i])))
    if how == REWORDED:
        labels = [str(rng.choice((text, *WORDINGS[text]))) for text in labels]
    return labels, chosen


def scored(values: Floats, swapped: NDArray[np.int64]) -> tuple[float, float]:
    """AUROC and precision of the lowest; ties count half, and are cut by place."""
    other = np.setdiff1d(np.arange(len(values)), swapped)
    low, high = values[swapped][:, None], values[other]
    area = float((low < high).mean() + 0.5 * (low == high).mean())
    return area, float(np.isin(np.argsort(values, kind="stable")[: len(swapped)], swapped).mean())


def rows(folder: Path, draws: int, seed: int) -> list[Row]:
    """Both arms, by kind of swap."""
    true, paths = episodes(folder)
    texts = tuple(sorted({*true, *(text for reworded in WORDINGS.values() for text in reworded)}))
    known = embed(TextBlock(texts, texts), TextEmbeddingHandler(device="cpu").load_model(), 8)
    codes = dict(zip(known.ids, known.codes.astype(np.float64), strict=True))
    every, count = np.arange(len(true)), InstructionGroundingParams().neighbours
    near = nearest(paths, every, count)
    table = []
    for how in (ANY, SAME, OTHER, REWORDED):
        rng = np.random.default_rng(seed)
        found: dict[str, list[tuple[float, float]]] = {"text agreement": [], "same text to the letter": []}
        for _ in range(draws):
            labels, swapped = swap(true, how, rng)
            values, _, _ = agreements(paths, np.stack([codes[t] for t in labels]), every, count)
            found["text agreement"].append(scored(values, swapped))
            named = np.array(labels)
            found["same text to the letter"].append(scored((named[near] == named[:, None]).mean(1), swapped))
        for arm, scores in found.items():
            area, precision = np.mean(scores, axis=0)
            note = f"precision of the lowest three {precision:.3f}; {len(true)} episodes, {draws} draws, seed {seed}"
            table.append(Row(f"{arm}, {how}", float(area), "AUROC", note))
    return table


def main() -> int:
    """Measure, print, judge; without recordings, say so and end with 0."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--draws", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=31)
    options = arguments.parse_args()
    given = os.environ.get("ROBOT_DATA")
    if not given:
        print("skipped: ROBOT_DATA is not set; it names the folder of the recordings that docs/real_data.md lists")
        return 0
    found = rows(Path(given), options.draws, options.seed)
    bars = [Bar(f"text agreement, {how}", "min", 0.85) for how in (ANY, REWORDED)]
    versions = package_versions("numpy", "torch", "tokenizers")
    return finish(Report("Swapped instructions", found, bars, versions), options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
