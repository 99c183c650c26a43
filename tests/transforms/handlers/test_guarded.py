"""A failing model costs the elements it fails on; out of memory costs time, and is said."""

from __future__ import annotations

from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pytest
import torch
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from transforms.beam_inference import RunInference
from transforms.handlers.blocks import Embedded, Floats, TextBlock
from transforms.handlers.embedding import Device, EmbeddingHandler, Encoder
from transforms.handlers.guarded import GuardedHandler, is_out_of_memory

TEXTS = ("one", "three", "five!", "seven", "nine", "eleven", "x", "yy")
BLOCK = TextBlock(tuple(f"{i}" for i in range(8)), TEXTS, "k")


class Lengths(Encoder):
    """Letters of a text as its vector, by torch; holds `room` rows, as a device of so much memory does."""

    def __init__(self, device: str, room: int, bad: str) -> None:
        super().__init__("lengths", "w/1", device)
        self.room, self.bad, self.calls = room, bad, []

    def bucket(self, row: str) -> tuple[int, ...]:
        return (0,)

    def encode(self, rows: Sequence[str]) -> Floats:
        self.calls.append(len(rows))
        if len(rows) > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(rows)} rows")
        if self.bad in rows:
            raise ValueError(f"cannot read {self.bad!r}")
        lengths = torch.tensor([float(len(row)) for row in rows])
        found = torch.stack([lengths, torch.ones(len(rows))], 1)
        found[[i for i, row in enumerate(rows) if row == "yy"]] /= 0 if self.bad == "nan" else 1
        return found.numpy()


class LengthsHandler(EmbeddingHandler):
    def __init__(self, device: Device, room: int, cpu_room: int = 99, bad: str = "", batch_rows: int = 8) -> None:
        super().__init__("lengths", device, batch_rows)
        self.room, self.cpu_room, self.bad = room, cpu_room, bad
        self.loaded: list[str] = []

    def load(self, device: Device) -> Encoder:
        self.loaded.append(device)
        return Lengths(device, self.cpu_room if device == "cpu" else self.room, self.bad)


def run(handler: EmbeddingHandler, block: TextBlock = BLOCK) -> Embedded:
    guarded = GuardedHandler(handler)
    (found,) = guarded.run_inference([block], guarded.load_model())
    return found


WHOLE = run(LengthsHandler("cpu", 8))


def same_vectors(found: Embedded, expected: Embedded = WHOLE) -> bool:
    at = [expected.ids.index(name) for name in found.ids]
    return np.array_equal(found.codes, expected.codes[at]) and np.array_equal(found.scales, expected.scales[at])


def test_nothing_is_said_where_nothing_failed() -> None:
    assert WHOLE.ids == BLOCK.ids and not WHOLE.failures and not WHOLE.notes and WHOLE.key == "k"
    lengths = np.array([len(text) for text in TEXTS])
    expected = np.stack([lengths, np.ones(8)], 1) / np.hypot(lengths, 1)[:, None]
    assert np.abs(WHOLE.vectors() - expected).max() < 2**-7


def test_out_of_memory_halves_the_batch_until_it_fits() -> None:
    handler = LengthsHandler("cuda", 2)
    guarded = GuardedHandler(handler)
    model = guarded.load_model()
    (found,) = guarded.run_inference([BLOCK], model)
    assert model.encoder.calls == [8, 4, 2, 2, 2, 2]  # type: ignore[attr-defined]
    assert same_vectors(found) and set(found.devices) == {"cuda"} and not found.failures
    assert found.notes == ("cuda ran out of memory: calls of 2 rows instead of 8",)
    assert handler.loaded == ["cuda"], "there was no need of the cpu"


def test_a_device_too_small_for_one_row_falls_back_to_the_cpu_and_says_so() -> None:
    handler = LengthsHandler("cuda", 0)
    guarded = GuardedHandler(handler)
    model = guarded.load_model()
    first, second = guarded.run_inference([BLOCK, BLOCK], model)
    assert same_vectors(first) and same_vectors(second) and set(first.devices) == {"cpu"}
    assert first.notes == ("cuda ran out of memory at calls of one row: computed on the cpu",)
    assert handler.loaded == ["cuda", "cpu"], "the model is loaded once on each"


def test_no_memory_anywhere_is_a_typed_failure_of_each_row() -> None:
    found = run(LengthsHandler("cpu", 0, cpu_room=0))
    assert found.ids == () and [f.id for f in found.failures] == list(BLOCK.ids)
    assert {f.error for f in found.failures} == {"OutOfMemory"}
    assert "Tried to allocate 1 rows" in found.failures[0].detail


def test_a_bad_row_costs_itself_only() -> None:
    found = run(LengthsHandler("cpu", 8, bad="nine"))
    assert found.ids == ("0", "1", "2", "3", "5", "6", "7") and same_vectors(found)
    (failure,) = found.failures
    assert (failure.id, failure.error, failure.detail) == ("4", "ValueError", "ValueError: cannot read 'nine'")
    assert found.notes == ("a call of 8 rows failed (ValueError: cannot read 'nine') and was tried again singly",)
    alone = run(LengthsHandler("cpu", 8, bad="nine"), BLOCK.take([4]))
    assert alone.ids == () and alone.failures[0].id == "4" and not alone.notes


def test_a_vector_that_is_not_finite_is_a_failure() -> None:
    found = run(LengthsHandler("cpu", 8, bad="nan"))
    assert found.ids == BLOCK.ids[:7] and same_vectors(found)
    assert [(f.id, f.error, f.detail) for f in found.failures] == [("7", "NotFinite", "lengths gave inf")]


def test_what_counts_as_out_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("x")) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(ValueError("memory"))


def told(found: Embedded) -> str:
    """All of a result, as text."""
    return repr((found.key, found.ids, found.codes.tolist(), found.scales.tolist(), found.failures, found.notes))


def test_counters_and_results_do_not_depend_on_the_order_of_blocks() -> None:
    blocks = [TextBlock((f"{i}", f"{i}b"), ("nine" if i == 3 else "word" * i, "z"), f"{i}") for i in range(1, 9)]
    expected = [told(run(LengthsHandler("cuda", 1, bad="nine"), block)) for block in blocks]
    for order in (blocks, blocks[::-1]):
        pipeline = Pipeline(FnApiRunner())
        handler = GuardedHandler(LengthsHandler("cuda", 1, bad="nine"))
        rows = pipeline | beam.Create(order).with_output_types(TextBlock) | RunInference(handler) | beam.Map(told)
        assert_that(rows, equal_to(expected))
        result = pipeline.run()
        result.wait_until_finish()
        counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
        assert {name: value for name, value in counted.items() if name.startswith("embedding.")} == {
            "embedding.embedded": 15,
            "embedding.failed": 1,
            "embedding.retried_singly": 1,
            "embedding.halved": 8,
        }


def test_wrong_parameters_are_named() -> None:
    with pytest.raises(ValueError, match="device is 'tpu'; use one of auto, cpu, cuda"):
        LengthsHandler("tpu", 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_rows is 0; need at least 1"):
        LengthsHandler("cpu", 1, batch_rows=0)
