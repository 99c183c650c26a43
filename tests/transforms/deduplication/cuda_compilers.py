"""What compiles minhash.cu in the tests: nvcc, NVRTC from its wheel, and g++ for the CPU."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from transforms.deduplication.cuda_kernels import SOURCE
from transforms.deduplication.letters import letter_table
from transforms.deduplication.minhash import Permutations
from transforms.deduplication.shingles import Shingles

HERE = Path(__file__).parent


def nvcc_cubin(architecture: str, folder: Path) -> tuple[bytes, str]:
    """The machine code of a real architecture, and what ptxas says of registers and spills."""
    nvcc = shutil.which("nvcc") or next(_in_wheels("nvcc"), None)
    if nvcc is None:
        pytest.skip("nvcc is neither on the PATH nor installed: pip install -r requirements-cuda.txt")
    out = folder / f"{architecture}.cubin"
    flags = ["-cubin", f"-arch={architecture}", "-std=c++17", "-Werror=all-warnings", "-Xptxas=-v"]
    done = subprocess.run([nvcc, *flags, "-o", out, SOURCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out.read_bytes(), done.stderr


def nvrtc_cubin(architecture: str) -> bytes:
    """The machine code of a real architecture by NVRTC, as CuPy compiles it."""
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    text = SOURCE.read_bytes()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"minhash.cu", 0, None, None) == 0
    flags = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    failed = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    assert not failed, _read(nvrtc, program, "ProgramLog").decode()
    return _read(nvrtc, program, "CUBIN")


def _read(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    out = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, out) == 0
    return out.raw


def _nvrtc() -> ctypes.CDLL:
    for library in _in_wheels("libnvrtc.so.*"):
        return ctypes.CDLL(str(library))
    pytest.skip("NVRTC is not installed: pip install -r requirements-cuda.txt")


def _in_wheels(name: str) -> Iterator[Path]:
    """Files of NVIDIA's wheels, which share one namespace package."""
    spec = importlib.util.find_spec("nvidia")
    for root in spec.submodule_search_locations if spec and spec.submodule_search_locations else ():
        yield from sorted(path for path in Path(root).rglob(name) if path.is_file())


class HostKernels:
    """minhash.cu compiled by g++ through host_shim.h."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("g++")
        if compiler is None:
            pytest.skip("g++ is not on the PATH")
        library = folder / "host_minhash.so"
        flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-Wall", "-Wno-unknown-pragmas", "-Werror"]
        shim = ["-include", HERE / "host_shim.h", f'-DKERNELS="{SOURCE}"']
        command = [compiler, *flags, *shim, "-o", library, HERE / "host_minhash.cpp"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.library = ctypes.CDLL(str(library))

    def sign(self, shingles: Shingles, perms: Permutations, blocks: int, threads: int) -> NDArray[np.int32]:
        """(N, P) signatures by a grid of `blocks` and `threads`."""
        out = np.full((len(shingles), perms.count), 77, np.int32)
        begins, ends = shingles.offsets[:-1].copy(), shingles.offsets[1:].copy()
        arrays = (shingles.hashes, begins, ends)
        sizes = (ctypes.c_int(len(perms.a)), ctypes.c_int(perms.count))
        self.library.host_sign_documents(
            blocks,
            threads,
            *map(_at, arrays),
            ctypes.c_int64(len(shingles)),
            _at(perms.a),
            _at(perms.b),
            *sizes,
            _at(out),
        )
        return out

    def hash_words(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], n: int, threads: int) -> Shingles:
        """The n-grams of texts by two blocks of `threads`."""
        texts = len(offsets) - 1
        data, offsets = data.copy(), offsets.copy()
        hashes = np.zeros((len(data) + texts) // 2 + 1, np.uint64)
        begins, ends = np.zeros(texts, np.int64), np.zeros(texts, np.int64)
        letters = letter_table()
        self.library.host_hash_words(
            2,
            threads,
            _at(data),
            _at(offsets),
            ctypes.c_int64(texts),
            ctypes.c_int(n),
            *map(_at, (letters, hashes, begins, ends)),
        )
        assert (begins[1:] >= ends[:-1]).all(), "a text wrote into the next one's room"
        held = [hashes[a:b] for a, b in zip(begins, ends, strict=True)]
        return Shingles(np.concatenate([hashes[:0], *held]), np.cumsum([0, *map(len, held)]))


class DeviceArray(np.ndarray):
    """An array that a test takes for one of CuPy."""

    def get(self) -> NDArray[np.generic]:
        """The values on the host."""
        return np.asarray(self)


class HostCupy:
    """What cuda_kernels.py asks of CuPy, its kernels on the CPU; it checks what a RawKernel would take on trust."""

    POINTERS: ClassVar = {
        "sign_documents": ["uint64", "int64", "int64", None, "int32", "int32", None, None, "int32"],
        "hash_words": ["uint8", "int64", None, None, "uint64", "uint64", "int64", "int64"],
    }
    SCALARS: ClassVar = {"sign_documents": ["int64", "int32", "int32"], "hash_words": ["int64", "int32"]}
    int32, int64, uint64 = np.int32, np.int64, np.uint64

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def asarray(self, values: NDArray[np.generic]) -> DeviceArray:
        """A copy, as to a device."""
        return np.array(values).view(DeviceArray)

    def empty(self, shape: int | tuple[int, ...], kind: type[np.generic]) -> DeviceArray:
        """Filled with what no kernel writes."""
        return np.full(shape, 77, kind).view(DeviceArray)

    def RawModule(self, code: str, options: tuple[str, ...]) -> HostCupy:  # noqa: N802  CuPy's name
        """The module; its code is what the library was compiled from."""
        assert code == SOURCE.read_text(encoding="utf-8") and options == ("--std=c++17",)
        return self

    def get_function(self, name: str) -> Callable[..., None]:
        """A kernel that is called as CuPy's are: grid, block, arguments."""

        def call(grid: tuple[int], block: tuple[int], arguments: Sequence[np.generic | DeviceArray]) -> None:
            arrays = [getattr(a, "ndim", 0) > 0 for a in arguments]
            kinds = [str(a.dtype) if array else None for a, array in zip(arguments, arrays, strict=True)]
            assert kinds == self.POINTERS[name]
            scalars = [str(a.dtype) for a, array in zip(arguments, arrays, strict=True) if not array]
            assert scalars == self.SCALARS[name], "a RawKernel takes NumPy scalars by their own size"
            assert all(a.flags.c_contiguous for a, array in zip(arguments, arrays, strict=True) if array)
            passed = [_at(a) if array else _scalar(a) for a, array in zip(arguments, arrays, strict=True)]
            getattr(self._library, f"host_{name}")(grid[0], block[0], *passed)

        return call


def _scalar(value: np.generic) -> ctypes.c_int | ctypes.c_int64:
    return ctypes.c_int64(int(value)) if value.dtype == np.int64 else ctypes.c_int(int(value))


def _at(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
