"""What runs on a GPU, against NumPy to the bit: `pytest -m gpu`. Skipped with the reason where there is none."""

from __future__ import annotations

import apache_beam as beam
import apache_beam.testing.util
import numpy as np
import pyarrow as pa
import pytest

import transforms.resources  # noqa: F401  registers the hint
from transforms.beam_inference import RunInference
from transforms.deduplication.cuda_kernels import cuda_signatures, cuda_text_signatures
from transforms.deduplication.minhash import numpy_signatures, permutations
from transforms.deduplication.text_shingles import numpy_word_hashes
from transforms.deduplication.text_words import text_bytes
from transforms.handlers.minhash import MinHashHandler, pack, torch_signatures

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def cupy_gpu() -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: the extra `gpu`")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        pytest.skip(f"CuPy sees no GPU: {error}")
    if not count:
        pytest.skip("CuPy sees no GPU")


@pytest.fixture(scope="module")
def torch_gpu() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: the extra `gpu`")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")


def corpus() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    offsets = np.cumsum([0, 1, 2, 511, 512, 513, 30_000, *rng.integers(1, 400, 3000)])
    return rng.integers(0, 2**64 - 1, offsets[-1], np.uint64), offsets


@pytest.mark.parametrize("count", [1, 30, 256, 2000])
def test_the_kernel_signs_as_numpy(cupy_gpu, count):
    shingles, offsets = corpus()
    perms = permutations(count, 3)
    assert np.array_equal(cuda_signatures(shingles, offsets, perms), numpy_signatures(shingles, offsets, perms))


def test_torch_signs_as_numpy(torch_gpu):
    shingles, offsets = corpus()
    perms = permutations(64, 3)
    assert np.array_equal(torch_signatures(shingles, offsets, perms), numpy_signatures(shingles, offsets, perms))


def test_texts_are_hashed_and_signed_as_by_numpy(cupy_gpu):
    texts = pa.array([f"{'the red cube ' * (i % 30)}Straße {i}" for i in range(2000)] + ["", "one"])
    perms = permutations(256, 3)
    signed, sizes = cuda_text_signatures(text_bytes(texts), 5, perms)
    expected = numpy_word_hashes(texts, 5)
    assert np.array_equal(sizes, expected.sizes())
    filled = np.flatnonzero(sizes)
    bounds = np.concatenate([[0], np.cumsum(sizes[filled])])
    assert np.array_equal(signed[filled], numpy_signatures(expected.hashes, bounds, perms))


def test_the_handler_signs_blocks_under_run_inference(cupy_gpu):
    block = pack([("a", np.array([5, 6, 7], "<u8").tobytes()), ("b", np.array([6], "<u8").tobytes())])
    expected = numpy_signatures(block.hashes(), np.array(block.offsets), permutations(8, 9)).tolist()

    def check(found: list[list[list[int]]]) -> None:
        assert found == [expected]

    with beam.Pipeline() as pipeline:
        signed = pipeline | "Make" >> beam.Create([block]) | "Sign" >> _sign()
        beam.testing.util.assert_that(signed | "List" >> beam.Map(lambda r: r.inference.tolist()), check)


def _sign() -> beam.PTransform:
    return RunInference(MinHashHandler(8, 9, "cuda")).with_resource_hints(gpus=1)
