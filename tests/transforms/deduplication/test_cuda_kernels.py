"""minhash.cu: compiled for the GPUs it is meant for, and its very text run on the CPU, bit for bit."""

import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transforms.deduplication.cuda_compilers import HostCupy, HostKernels, nvcc_cubin, nvrtc_cubin
from transforms.deduplication import cuda_kernels
from transforms.deduplication.minhash import numpy_signatures, permutations
from transforms.deduplication.shingles import Shingles
from transforms.deduplication.text_shingles import word_hashes
from transforms.deduplication.text_words import text_bytes

ARCHITECTURES = ("sm_80", "sm_90")
FLAGS = ("--std=c++17",)
KERNELS = (b"sign_documents", b"hash_words")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    return HostKernels(tmp_path_factory.mktemp("host"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvcc_compiles_it_without_spills(architecture, tmp_path):
    code, said = nvcc_cubin(architecture, tmp_path)
    assert code[:4] == b"\x7fELF" and all(kernel in code for kernel in KERNELS)
    assert re.findall(r"(\d+) bytes spill stores", said) == ["0", "0"], said


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_it_as_cupy_will(architecture):
    code = nvrtc_cubin(architecture)
    assert code[:4] == b"\x7fELF" and all(kernel in code for kernel in KERNELS)


@pytest.mark.parametrize(("blocks", "threads"), [(1, 1), (3, 8), (64, 32), (5, 64)])
def test_the_text_of_the_kernel_signs_as_numpy(host, blocks, threads):
    rng = np.random.default_rng(blocks)
    sizes = [1, 2, 8, 9, 511, 512, 513, 1500, 40]
    offsets = np.cumsum([0, *sizes])
    shingles = Shingles(rng.integers(0, 2**64 - 1, offsets[-1], np.uint64), offsets)
    for count in (1, 30, 256):
        perms = permutations(count, 9)
        signed = host.sign(shingles, perms, blocks, threads)
        assert np.array_equal(signed, numpy_signatures(shingles.hashes, offsets, perms))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("aB_0 .é字", max_size=30), max_size=9), st.integers(1, 7), st.integers(1, 5))
def test_the_text_of_the_kernel_hashes_words_as_numpy(host, texts, n, threads):
    held = text_bytes(pa.array(texts, pa.string()))
    expected = word_hashes(pa.array(texts, pa.string()), n)
    found = host.hash_words(held.data, held.offsets, n, threads)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.hashes, expected.hashes)


@pytest.fixture
def cupy_on_the_host(host: HostKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = HostCupy(host.library)
    monkeypatch.setattr(cuda_kernels, "cupy", lambda: stand_in)
    monkeypatch.setattr(cuda_kernels, "_module", lambda: stand_in.RawModule(cuda_kernels.SOURCE.read_text(), FLAGS))


@pytest.mark.parametrize("count", [5, 256, 1100])
def test_the_host_side_hands_each_kernel_what_it_takes(cupy_on_the_host, count):
    texts = ["the red cube on the blue plate", "", "one", "le café rouge de la maison", "the red cube on the table"]
    perms = permutations(count, 3)
    expected = word_hashes(pa.array(texts), 5)
    signed, sizes = cuda_kernels.cuda_text_signatures(text_bytes(pa.array(texts)), 5, perms)
    assert np.array_equal(sizes, expected.sizes())
    filled = np.flatnonzero(sizes)
    bounds = np.concatenate([[0], np.cumsum(sizes[filled])])
    by_numpy = numpy_signatures(expected.hashes, bounds, perms)
    assert np.array_equal(signed[filled], by_numpy)
    assert np.array_equal(cuda_kernels.cuda_signatures(expected.hashes, bounds, perms), by_numpy)
    none = np.zeros(1, np.int64)
    assert cuda_kernels.cuda_signatures(expected.hashes[:0], none, perms).shape == (0, count)


def test_without_cupy_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match=r"device 'cuda' needs CuPy: install the extra `gpu`"):
        cuda_kernels.cupy()
