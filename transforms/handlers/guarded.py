"""GuardedHandler: a model that fails on one element costs that element; out of memory costs time and is said."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from apache_beam.metrics import Metrics

from transforms.beam_inference import ModelHandler
from transforms.handlers.blocks import Embedded, EmbeddingFailure, joined, nothing
from transforms.handlers.embedding import BATCH_ROWS, Block, EmbeddingHandler, Encoder
from transforms.stage import contained


class GuardedModel:
    """The encoder of a handler and, once it is needed, the same on the CPU."""

    def __init__(self, handler: EmbeddingHandler) -> None:
        self._handler = handler
        self.encoder = handler.load_model()
        self._on_cpu: Encoder | None = None

    def on_cpu(self) -> Encoder:
        """The encoder on the CPU, loaded on first use."""
        if self._on_cpu is None:
            self._on_cpu = self._handler.load("cpu")
        return self._on_cpu


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device or the host ran out of memory, as Python, CuPy and torch say it."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


class GuardedHandler(ModelHandler[Block, Embedded, GuardedModel]):
    """Runs an embedding handler so that every element comes back, with its vector or with why it has none.

    A block that fails is tried again one row at a time. One that runs out of memory is tried in calls of half as many
    rows, down to one, then on the CPU. What was done is in the result's `notes` and in counters.
    """

    def __init__(self, handler: EmbeddingHandler) -> None:
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._handler = handler
        self._counters = {
            name: Metrics.counter("demosift", f"embedding.{name}")
            for name in ("embedded", "failed", "retried_singly", "halved", "on_cpu_after_memory")
        }

    def load_model(self) -> GuardedModel:
        return GuardedModel(self._handler)

    def run_inference(
        self, batch: Sequence[Block], model: GuardedModel, inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[Embedded]:
        found = [self._whole(block, model) for block in batch]
        self._counters["embedded"].inc(sum(len(one.ids) for one in found))
        self._counters["failed"].inc(sum(len(one.failures) for one in found))
        return found

    def _whole(self, block: Block, model: GuardedModel) -> Embedded:
        got = self._in_memory(block, model)
        if isinstance(got, Embedded):
            return replace(got, key=block.key)
        if len(block.ids) == 1:
            return self._failed(block, model, got)
        self._counters["retried_singly"].inc()
        note = f"a call of {len(block.ids)} rows failed ({_said(got)}) and was tried again singly"
        parts = []
        for place in range(len(block.ids)):
            one = block.take([place])
            alone = self._in_memory(one, model)
            parts.append(alone if isinstance(alone, Embedded) else self._failed(one, model, alone))
        whole = joined(parts, block.key)
        return replace(whole, notes=(note, *whole.notes))

    def _in_memory(self, block: Block, model: GuardedModel) -> Embedded | Exception:
        """The block in calls as large as the device can hold, else on the CPU; the error where it is another one."""
        device, rows, notes = model.encoder.device, self._handler.batch_rows, []
        got = self._call(block, model.encoder, rows)
        rows = min(rows, max(1, len(block.ids)))
        while isinstance(got, Exception) and is_out_of_memory(got) and rows > 1:
            rows //= 2
            self._counters["halved"].inc()
            notes = [f"{device} ran out of memory: calls of {rows} rows instead of {self._handler.batch_rows}"]
            got = self._call(block, model.encoder, rows)
        if isinstance(got, Exception) and is_out_of_memory(got) and device != "cpu":
            self._counters["on_cpu_after_memory"].inc(len(block.ids))
            notes = [f"{device} ran out of memory at calls of one row: computed on the cpu"]
            got = self._call(block, model.on_cpu(), self._handler.batch_rows)
        return replace(got, notes=tuple(notes)) if isinstance(got, Embedded) else got

    def _call(self, block: Block, encoder: Encoder, rows: int) -> Embedded | Exception:
        results: list[Embedded | Exception] = list(
            contained(lambda: self._handler.run_inference([block], encoder, {BATCH_ROWS: rows}), _bare)
        )
        if encoder.device != "cpu" and isinstance(results[0], Exception):
            import torch

            torch.cuda.empty_cache()
        return results[0]

    def _failed(self, block: Block, model: GuardedModel, error: Exception) -> Embedded:
        kind = "OutOfMemory" if is_out_of_memory(error) else type(error).__name__
        failures = tuple(EmbeddingFailure(name, kind, _said(error)) for name in block.ids)
        return nothing(model.encoder.name, model.encoder.revision, failures, block.key)

    def get_num_bytes(self, batch: Sequence[Block]) -> int:
        return self._handler.get_num_bytes(batch)

    def get_resource_hints(self) -> dict[str, float]:
        return self._handler.get_resource_hints()

    def get_metrics_namespace(self) -> str:
        return self._handler.get_metrics_namespace()


def _bare(error: Exception) -> Exception:
    """The error without its frames, which would hold the device's memory."""
    return error.with_traceback(None)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
