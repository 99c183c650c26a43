"""Behaviour cloning starts on what was curated: 200 steps of a small network, and the loss falls."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from beam_pipeline.__main__ import main

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'demosift[training]'")

from beam_pipeline.training.episodes_dataset import EpisodesDataset  # noqa: E402
from beam_pipeline.training.sampler import RowGroupSampler  # noqa: E402

STATE, ACTION = "observation.state", "action"


def clone(dataset: EpisodesDataset, steps: int = 200) -> np.ndarray:
    """Loss of each of `steps` steps of an MLP from the state to a chunk of normalised actions, padding left out."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    first = dataset[0]
    size = first[STATE].shape[0]
    policy = torch.nn.Sequential(
        torch.nn.Linear(size, 128), torch.nn.ReLU(), torch.nn.Linear(128, first[ACTION].numel())
    )
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    sampler = RowGroupSampler(dataset, seed=1)
    loader = torch.utils.data.DataLoader(dataset, batch_size=64, sampler=sampler, drop_last=True)
    losses: list[float] = []
    epoch = 0
    while len(losses) < steps:
        sampler.set_epoch(epoch)
        for batch in loader:
            wanted = batch[ACTION]
            there = ~batch[f"{ACTION}_is_pad"].unsqueeze(-1).expand_as(wanted)
            loss = ((policy(batch[STATE]).view_as(wanted) - wanted) ** 2)[there].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
            if len(losses) == steps:
                break
        epoch += 1
    return np.array(losses)


def falls(output: Path, source: str, period_s: float) -> None:
    """The loss is finite, begins near the variance of the normalised actions, and ends well below it."""
    chunk = {ACTION: [i * period_s for i in range(8)]}
    scaled = {STATE: "mean_std", ACTION: "mean_std"}
    dataset = EpisodesDataset(output, [STATE, ACTION], chunk, sources=[source], normalize=scaled, split="train")
    losses = clone(dataset)
    assert np.isfinite(losses).all()
    start, end = losses[:5].mean(), losses[-20:].mean()
    assert 0.5 < start < 2.0, "normalised actions have variance 1"
    assert end < 0.6 * start, (source, start, end)


@pytest.mark.parametrize(("source", "rate_hz"), [("so101", 30), ("g1", 30)])
def test_the_loss_falls_on_real_recordings(curated_recordings: Path, tmp_path: Path, source: str, rate_hz: int) -> None:
    output = tmp_path / "out"  # the other tests' folder has no splits
    shutil.copytree(curated_recordings, output)
    assert main(["split", "--output", str(output), "--val", "0.2", "--stratify"]) == 0
    falls(output, source, 1 / rate_hz)


def test_the_loss_falls_on_the_sample(tmp_path: Path) -> None:
    from examples.make_sample import make_sample
    from examples.sample.flaws import FlawSizes

    make_sample(tmp_path / "in", 1234, 8, FlawSizes())
    assert main(["--config", str(tmp_path / "in/sample.yaml"), "--output", str(tmp_path / "out")]) == 0
    assert main(["split", "--output", str(tmp_path / "out")]) == 0
    falls(tmp_path / "out", "sample_lerobot", 0.05)
