"""The frame of every embedding model: an encoder that loads once a worker, and the handler that feeds it by blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import xxhash

import transforms.resources
from transforms.beam_inference import ModelHandler
from transforms.handlers.blocks import Embedded, EmbeddingFailure, Floats, FrameBlock, TextBlock, nothing, quantised

Device = Literal["auto", "cpu", "cuda"]
Block = FrameBlock | TextBlock
BATCH_ROWS = "batch_rows"
"""Inference argument: rows of one call, fewer than the handler's own."""
_DEVICES = ("auto", "cpu", "cuda")


class Encoder(ABC):
    """A model on one device: rows in, vectors out. An object, so that Beam can share one a worker by a weak reference.

    `revision` is the hash of the weights and the version of what is done to a row before they see it.
    """

    def __init__(self, name: str, revision: str, device: str) -> None:
        self.name, self.revision, self.device = name, revision, device

    @abstractmethod
    def bucket(self, row: Any) -> tuple[int, ...]:
        """The shape that a row is brought to: only rows of one shape share a call."""

    @abstractmethod
    def encode(self, rows: Sequence[Any]) -> Floats:
        """(N, D) vectors of N rows of one bucket."""


def weights_hash(files: Iterable[Path]) -> str:
    """xxh3-128 over the names and bytes of some files."""
    digest = xxhash.xxh3_128()
    for path in sorted(files):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def chosen_device(device: Device) -> str:
    """`cpu` or `cuda`; `auto` is whichever this worker has. Raises RuntimeError for a GPU that torch does not see."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise RuntimeError(f"device is 'cuda' and torch {torch.__version__} sees no GPU here; use 'auto' or 'cpu'")
    return "cpu"


def half_precision(device: str) -> AbstractContextManager[Any]:
    """On a GPU bfloat16, or float16 where it has none; float32 on the CPU."""
    import torch

    if device == "cpu":
        return nullcontext()
    dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.autocast(device, dtype=dtype)


def unit_length(vectors: Floats) -> Floats:
    """(N, D) rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), np.float32)


def calls(block: Block, encoder: Encoder, batch_rows: int) -> Iterator[tuple[list[int], list[Any]]]:
    """(places, rows) of each call: by bucket, then id, in batches of one size; the last row fills up the last batch.

    Which rows share a call follows from the block alone. A block of fewer than `batch_rows` is filled up to a power of
    two.
    """
    buckets = [encoder.bucket(row) for row in block.rows]
    order = sorted(range(len(buckets)), key=lambda i: (buckets[i], block.ids[i]))
    for _, group in groupby(order, key=buckets.__getitem__):
        members = list(group)
        size = min(batch_rows, 1 << (len(members) - 1).bit_length())
        for start in range(0, len(members), size):
            places = members[start : start + size]
            rows = [block.rows[i] for i in places]
            yield places, rows + rows[-1:] * (size - len(rows))


def embed(block: Block, encoder: Encoder, batch_rows: int) -> Embedded:
    """The vectors of a block, in its order; one that is zero or not finite is a failure. Raises as the model does."""
    found: dict[int, Floats] = {}
    for places, rows in calls(block, encoder, batch_rows):
        found.update(zip(places, encoder.encode(rows), strict=False))
    failures = {i: failure for i in range(len(block.ids)) if (failure := _fault(block.ids[i], found[i], encoder))}
    good = [i for i in range(len(block.ids)) if i not in failures]
    if not good:
        return nothing(encoder.name, encoder.revision, tuple(failures.values()), block.key)
    codes, scales = quantised(unit_length(np.stack([found[i] for i in good])))
    return Embedded(
        ids=tuple(block.ids[i] for i in good),
        codes=codes,
        scales=scales,
        devices=(encoder.device,) * len(good),
        model=encoder.name,
        revision=encoder.revision,
        failures=tuple(failures.values()),
        key=block.key,
    )


def _fault(name: str, vector: Floats, encoder: Encoder) -> EmbeddingFailure | None:
    finite = np.isfinite(vector)
    if not finite.all():
        return EmbeddingFailure(name, "NotFinite", f"{encoder.name} gave {vector[~finite][0]}")
    if not vector.any():
        return EmbeddingFailure(name, "Blank", f"{encoder.name} finds nothing in it: one flat colour, or no text")
    return None


class EmbeddingHandler(ModelHandler[Block, Embedded, Encoder]):
    """Embeds blocks, one at a time: a call never mixes rows of two blocks, so batching changes no byte.

    Subclasses say how their encoder loads and which `model` is the default. With `gpus` a runner that knows the hint
    gives each worker that share of a GPU. Threads are torch's own setting, which a worker has from its CPU hint.
    """

    default_model: ClassVar[str] = ""

    def __init__(
        self, model: str = "", device: Device = "auto", batch_rows: int = 32, gpus: float | None = None
    ) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        if device not in _DEVICES:
            raise ValueError(f"device is {device!r}; use one of {', '.join(_DEVICES)}")
        if batch_rows < 1:
            raise ValueError(f"batch_rows is {batch_rows}; need at least 1")
        if gpus is not None:
            transforms.resources.GpusHint.parse(gpus)
        self.model = model or self.default_model
        self.device, self.batch_rows, self.gpus = device, batch_rows, gpus

    @abstractmethod
    def load(self, device: Device) -> Encoder:
        """The encoder on a device. Raises ImportError that names the extra where a library is absent."""

    def load_model(self) -> Encoder:
        return self.load(self.device)

    def run_inference(
        self, batch: Sequence[Block], model: Encoder, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[Embedded]:
        rows = int((inference_args or {}).get(BATCH_ROWS, self.batch_rows))
        return [embed(block, model, rows) for block in batch]

    def get_num_bytes(self, batch: Sequence[Block]) -> int:
        """Bytes of pixels or text; Beam's default would pickle the batch to count them."""
        return sum(block.nbytes for block in batch)

    def get_resource_hints(self) -> dict[str, float]:
        return {} if self.gpus is None else {"gpus": self.gpus}

    def get_metrics_namespace(self) -> str:
        return "demosift"
