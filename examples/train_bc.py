"""Behaviour cloning on an exported data set: the official LeRobotDataset, a small MLP, 200 steps, and its loss falls.

    python -m examples.train_bc EXPORT [--steps 200] [--horizon 8]

Needs `lerobot` and torch: `make test-lerobot` sets up `.venv-lerobot`, which has both.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

BATCH, WIDTH, LEARNING_RATE = 16, 256, 1e-3
SHOWN_EVERY = 20


def train(folder: Path, steps: int, horizon: int, seed: int = 0) -> list[float]:
    """Clone `horizon` actions from one state; returns the mean squared error of each step, in standard deviations."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset, LeRobotDatasetMetadata

    torch.manual_seed(seed)
    torch.set_num_threads(1)  # so small a network gains nothing from more
    torch.use_deterministic_algorithms(True)
    meta = LeRobotDatasetMetadata(folder.name, root=folder)
    dataset = LeRobotDataset(
        folder.name,
        root=folder,
        delta_timestamps={"action": [step / meta.fps for step in range(horizon)]},
    )
    for camera in dataset.meta.video_keys:  # a policy of the state alone needs no frames, so none are decoded
        del dataset.meta.features[camera]

    def scale(feature: str) -> tuple[torch.Tensor, torch.Tensor]:
        stats = dataset.meta.stats[feature]
        return torch.tensor(stats["mean"]).float(), torch.tensor(stats["std"]).float().clamp(min=1e-3)

    state_mean, state_std = scale("observation.state")
    action_mean, action_std = scale("action")
    policy = torch.nn.Sequential(
        torch.nn.Linear(len(state_mean), WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, WIDTH),
        torch.nn.ReLU(),
        torch.nn.Linear(WIDTH, horizon * len(action_mean)),
    )
    optimizer = torch.optim.Adam(policy.parameters(), LEARNING_RATE)
    shuffled = torch.Generator().manual_seed(seed)
    loader = torch.utils.data.DataLoader(
        dataset, BATCH, shuffle=True, generator=shuffled, drop_last=len(dataset) > BATCH
    )
    losses: list[float] = []
    for batch in itertools.islice(itertools.chain.from_iterable(itertools.repeat(loader)), steps):
        state = (batch["observation.state"].float() - state_mean) / state_std
        wanted = (batch["action"].float() - action_mean) / action_std
        real = ~batch["action_is_pad"][..., None]
        error = (policy(state).view_as(wanted) - wanted) ** 2 * real
        loss = error.sum() / (real.sum() * wanted.shape[-1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if len(losses) % SHOWN_EVERY in (0, 1):
            print(f"step {len(losses):4d}  loss {losses[-1]:.4f}", flush=True)
    return losses


def main() -> None:
    """Train, and fail where the loss did not halve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("export", type=Path, help="a LeRobot v3.0 data set, as `export --format lerobot-v3` writes it")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--horizon", type=int, default=8, help="actions that are predicted from one state")
    arguments = parser.parse_args()
    if not (arguments.export / "meta/info.json").is_file():
        raise SystemExit(
            f"{arguments.export} is no LeRobot data set (no meta/info.json); export --format lerobot-v3 first"
        )
    losses = train(arguments.export, arguments.steps, arguments.horizon)
    first, last = sum(losses[:10]) / len(losses[:10]), sum(losses[-10:]) / len(losses[-10:])
    print(f"mean loss of the first 10 steps {first:.4f}, of the last 10 {last:.4f}")
    if not last < first / 2:
        raise SystemExit("the loss did not fall by half")


if __name__ == "__main__":
    main()
