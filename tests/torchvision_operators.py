"""Lets torchvision be imported beside another build of torch, as timm and open_clip do, which use no operator of it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any


@cache
def declare_operators() -> Any:
    """PyPI's torchvision is built for CUDA: beside torch's CPU build its operators do not load, and its import insists
    on two of them. Here they are declared, and do nothing. The caller keeps what is returned alive."""
    import torch

    if torch.version.cuda is not None or "+cpu" in version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
