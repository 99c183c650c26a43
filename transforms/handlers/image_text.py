"""Frames and texts in one space by CLIP or SigLIP, where open_clip finds weights: in a folder or on a hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transforms.handlers.blocks import Floats
from transforms.handlers.embedding import Device, EmbeddingHandler, Encoder, chosen_device, half_precision
from transforms.handlers.frame_embedding import resized, scaled, state_hash
from transforms.handlers.torchvision_errors import imported

_LOCAL = "local-dir:"
_HUB = "hf-hub:"
_CONFIG = "open_clip_config.json"
_PREPROCESSING = "image-text-1"
"""Changes with what is done before the model: a frame brought whole, bicubic, to its square; a text's outer blanks."""
_TEXT, _IMAGE = 0, 1


class ImageTextEncoder(Encoder):
    """Both towers of one model: rows are (H, W, 3) frames or texts, and their vectors are comparable."""

    def __init__(self, model: str, device: str) -> None:
        open_clip = imported("open_clip")
        # without weights open_clip would initialise at random, and say so only in its log
        self._net = open_clip.create_model(model, device=device, require_pretrained=True).eval()
        self._tokenizer: Any = open_clip.get_tokenizer(model)
        shown = self._net.visual.preprocess_cfg
        size = shown["size"]
        self.pixels: int = size[0] if isinstance(size, (tuple, list)) else size
        self._mean, self._std = ([255 * v for v in shown[key]] for key in ("mean", "std"))
        name = Path(model.removeprefix(_LOCAL)).name if model.startswith(_LOCAL) else model
        super().__init__(name, f"{state_hash(self._net)}/{_PREPROCESSING}", device)

    def bucket(self, row: Any) -> tuple[int, ...]:
        return (_TEXT,) if isinstance(row, str) else (_IMAGE, self.pixels)

    def encode(self, rows: Sequence[Any]) -> Floats:
        import torch

        with torch.inference_mode(), half_precision(self.device):
            if isinstance(rows[0], str):
                tokens = self._tokenizer([row.strip() for row in rows]).to(self.device)
                found = self._net.encode_text(tokens, normalize=True)
            else:
                frames = np.stack([resized(row, self.pixels) for row in rows])
                found = self._net.encode_image(scaled(frames, self.device, self._mean, self._std), normalize=True)
        vectors: Floats = found.float().cpu().numpy()
        return vectors


class ImageTextHandler(EmbeddingHandler):
    """FrameBlock or TextBlock -> Embedded. `model` is `local-dir:FOLDER` or `hf-hub:OWNER/NAME`."""

    def __init__(self, model: str, device: Device = "auto", batch_rows: int = 32, gpus: float | None = None) -> None:
        super().__init__(model, device, batch_rows, gpus)
        if not model.startswith((_LOCAL, _HUB)):
            raise ValueError(f"open_clip model {model!r}: name weights by `local-dir:FOLDER` or `hf-hub:OWNER/NAME`")

    def load(self, device: Device) -> Encoder:
        if self.model.startswith(_LOCAL) and not (Path(self.model.removeprefix(_LOCAL)) / _CONFIG).exists():
            raise FileNotFoundError(f"{self.model}: no model of open_clip lies there (no {_CONFIG})")
        return ImageTextEncoder(self.model, chosen_device(device))
