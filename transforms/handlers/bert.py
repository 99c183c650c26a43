"""A BERT encoder read from a sentence-transformers folder by safetensors and tokenizers: no other library is imported.

The architecture is that of arXiv 1810.04805 (post-norm layers, erf GELU); the sentence's vector is the mean of its
tokens, as arXiv 1908.10084 takes it. `sentence-transformers` gives the same vectors to 1e-6, in six seconds of imports
a worker.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms.handlers.blocks import Floats

_MEAN_POOLING = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "pooling_mode_max_tokens": False}
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"


@dataclass(frozen=True)
class BertShape:
    """Layers, attention heads, epsilon of the norms, and the most tokens that a text may have."""

    layers: int
    heads: int
    epsilon: float
    max_tokens: int


def bert_shape(folder: Path) -> BertShape | None:
    """The shape of a folder's model where it is BERT with mean pooling; None for any other."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        pooling = json.loads((folder / "1_Pooling" / CONFIG).read_text(encoding="utf-8"))
        asked = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    plain = config["model_type"] == "bert" and config["hidden_act"] == "gelu"
    plain = plain and config.get("position_embedding_type", "absolute") == "absolute"
    present = (folder / WEIGHTS).exists() and (folder / TOKENIZER).exists()
    if not (plain and present and all(pooling.get(key, False) is value for key, value in _MEAN_POOLING.items())):
        return None
    return BertShape(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        max_tokens=min(asked.get("max_seq_length") or 512, config["max_position_embeddings"]),
    )


class Bert:
    """Weights on one device, and the tokenizer. Raises ImportError, naming the extra, where a library is absent."""

    def __init__(self, folder: Path, shape: BertShape, device: str) -> None:
        try:
            from safetensors.torch import load_file
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError(f"text embeddings need {error.name}: pip install 'demosift[embeddings]'") from error
        self._shape, self._device = shape, device
        self._weights: dict[str, Any] = load_file(folder / WEIGHTS, device=device)
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(shape.max_tokens)

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, cut at the most that the model takes."""
        found: list[int] = self._tokenizer.encode(text).ids
        return found

    def vectors(self, texts: Sequence[str], length: int) -> Floats:
        """(N, D) means of the tokens of N texts, each filled up to `length` tokens."""
        import torch

        held = [self.tokens(text) for text in texts]
        ids = torch.tensor([own + [0] * (length - len(own)) for own in held], device=self._device)
        seen = torch.tensor([[1.0] * len(own) + [0.0] * (length - len(own)) for own in held], device=self._device)
        hidden = self._hidden(ids, seen)
        mean = (hidden * seen[:, :, None]).sum(1) / seen.sum(1, keepdim=True)
        vectors: Floats = mean.float().cpu().numpy()
        return vectors

    def _hidden(self, ids: Any, seen: Any) -> Any:
        from torch.nn import functional as F  # noqa: N812

        table = "embeddings"
        x = F.embedding(ids, self._weights[f"{table}.word_embeddings.weight"])
        x = x + self._weights[f"{table}.position_embeddings.weight"][: ids.shape[1]]
        x = x + self._weights[f"{table}.token_type_embeddings.weight"][0]
        x = self._norm(x, f"{table}.LayerNorm")
        mask = seen[:, None, None, :].bool()
        for layer in range(self._shape.layers):
            place = f"encoder.layer.{layer}"
            query, key, value = (
                self._linear(x, f"{place}.attention.self.{part}").unflatten(2, (self._shape.heads, -1)).transpose(1, 2)
                for part in ("query", "key", "value")
            )
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
            mixed = self._linear(mixed, f"{place}.attention.output.dense")
            x = self._norm(x + mixed, f"{place}.attention.output.LayerNorm")
            wide = F.gelu(self._linear(x, f"{place}.intermediate.dense"))
            x = self._norm(x + self._linear(wide, f"{place}.output.dense"), f"{place}.output.LayerNorm")
        return x

    def _linear(self, x: Any, name: str) -> Any:
        from torch.nn import functional as F  # noqa: N812

        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Any, name: str) -> Any:
        from torch.nn import functional as F  # noqa: N812

        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, self._shape.epsilon)
