"""The handler under RunInference, and what it says of itself."""

import pickle
import sys
import weakref

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from transforms.beam_inference import RunInference
from transforms.deduplication.compiled import allowed_threads
from transforms.deduplication.minhash import permutations, signatures
from transforms.handlers.minhash import DocumentBlock, MinHasher, MinHashHandler, pack, torch_signatures

DOCUMENTS = [("a", np.array([5, 6, 7], "<u8").tobytes()), ("b", np.array([6], "<u8").tobytes())]


def test_pack_lays_documents_side_by_side():
    block = pack(DOCUMENTS)
    assert block == DocumentBlock(("a", "b"), np.array([5, 6, 7, 6], "<u8").tobytes(), (0, 3, 4))
    assert pack([]) == DocumentBlock((), b"", (0,))
    assert MinHasher(permutations(4, 1), "cpu").sign(pack([])).shape == (0, 4)
    assert MinHashHandler(4, 1).get_num_bytes([block, block]) == 64
    assert MinHashHandler(4, 1).share_model_across_processes() is False


def test_blocks_come_back_signed():
    expected = signatures(np.array([5, 6, 7, 6], np.uint64), np.array([0, 3, 4]), permutations(4, 9)).tolist()
    with Pipeline(FnApiRunner()) as pipeline:
        signed = (
            pipeline
            | "Make" >> beam.Create([pack(DOCUMENTS)])
            | "Sign" >> RunInference(MinHashHandler(4, 9))
            | "List" >> beam.Map(lambda result: (result.example.ids, result.inference.tolist()))
        )
        assert_that(signed, equal_to([(("a", "b"), expected)]))


def test_an_absent_device_library_and_an_unknown_device_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"device 'cuda' needs CuPy: install the extra `gpu`"):
        MinHashHandler(4, 1, "cuda").load_model()
    with pytest.raises(ValueError, match=r"device is 'tpu'; use 'cpu' or 'cuda'"):
        MinHashHandler(4, 1, "tpu")


def test_the_model_can_be_held_weakly_and_the_batch_is_counted_without_pickling():
    model = MinHashHandler(4, 1).load_model()
    assert weakref.ref(model)() is model
    assert pickle.loads(pickle.dumps(MinHashHandler(4, 1))).load_model().sign(pack(DOCUMENTS)).shape == (2, 4)


def test_torch_signs_as_numpy_wherever_it_runs():
    pytest.importorskip("torch")
    block = pack(DOCUMENTS)
    arguments = (block.hashes(), np.array(block.offsets), permutations(9, 2))
    assert np.array_equal(torch_signatures(*arguments, device="cpu"), signatures(*arguments))


def test_threads_are_what_the_worker_was_granted(monkeypatch):
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    assert allowed_threads() == 1
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert allowed_threads() == 3
    assert MinHasher(permutations(4, 1), "cpu").sign(pack(DOCUMENTS)).shape == (2, 4)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    assert allowed_threads() == 1
