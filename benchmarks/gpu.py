"""MinHash on a GPU: `python -m benchmarks.gpu [--documents 1000000] [--json FILE]`.

- device-resident: hashes to signatures, texts to signatures, nothing copied; as a fraction of the INT32 peak.
- host to host: bytes of text to the GPU, signatures back; as a fraction of a bare copy of the same bytes.
- Parquet to ids: a file of texts to the ids that a 32 x 8 banding would drop, candidates gated by their signatures.
- beside it the CPU's kernel, torch on the GPU, and NeMo Curator's GPUMinHash where it is installed.

Texts are benchmarks/dedup_english.py's, repeated to the number asked for. Before anything is timed the GPU's signatures
are compared with NumPy's. Where there is no GPU the rows say so.
"""

from __future__ import annotations

import importlib
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.dedup_english import english
from benchmarks.harness import Report, Row, finish, package_versions, parser
from transforms.deduplication.cuda_kernels import DeviceShingles, cuda_text_signatures, hash_on_device, sign_on_device
from transforms.deduplication.minhash import Permutations, band_keys, numpy_signatures, permutations, signatures
from transforms.deduplication.shingles import Shingles
from transforms.deduplication.text_shingles import word_hashes
from transforms.deduplication.text_words import TextBytes, text_bytes

N, PERMUTATIONS, BANDS, ROWS, ALIKE = 5, 256, 32, 8, 0.7
DISTINCT = 20_000
TURNS = 5
INT32_LANES = {(8, 0): 64, (9, 0): 64}
"""INT32 lanes of an SM by compute capability (CUDA C++ Programming Guide, arithmetic throughput): A100, H100, H200."""
OPERATIONS = 5
"""INT32 operations of one shingle and one product: a multiply-add and four minima and maxima, four permutations."""


def gpu_or_reason() -> str:
    """Why there is no GPU to measure on; empty where there is one."""
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        return "CuPy is not installed: the extra `gpu`"
    try:
        return "" if cupy.cuda.runtime.getDeviceCount() else "CuPy sees no GPU"
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy sees no GPU: {error}"


def best_s(work: Callable[[], object]) -> float:
    """Wall seconds of the best of TURNS calls after one to warm up, the device idle before and after."""
    synchronize = importlib.import_module("cupy").cuda.Device().synchronize
    work()
    taken = []
    for _ in range(TURNS):
        synchronize()
        started = time.perf_counter()
        work()
        synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken)


def int32_peak() -> float | None:
    """INT32 operations a second at the boost clock; None for a GPU whose lanes we do not know."""
    device = importlib.import_module("cupy").cuda.Device()
    attributes = device.attributes
    major, minor = (int(part) for part in (device.compute_capability[:-1], device.compute_capability[-1]))
    lanes = INT32_LANES.get((major, minor))
    return lanes and lanes * attributes["MultiProcessorCount"] * attributes["ClockRate"] * 1e3


def on_device(texts: TextBytes, shingles: Shingles, perms: Permutations) -> list[Row]:
    """Nothing but the kernels."""
    cp = importlib.import_module("cupy")
    bounds = cp.asarray(shingles.offsets)
    held = DeviceShingles(cp.asarray(shingles.hashes), bounds[:-1], bounds[1:])
    data, offsets = cp.asarray(texts.data), cp.asarray(texts.offsets)
    signing = best_s(lambda: sign_on_device(held, perms))
    both = best_s(lambda: sign_on_device(hash_on_device(data, offsets, N), perms))
    work = len(shingles.hashes) * len(perms.a) * OPERATIONS
    peak = int32_peak()
    return [
        Row("device: hashes to signatures", len(shingles) / signing, "documents/s"),
        Row("device: fraction of INT32 peak", peak and work / signing / peak, "", f"{OPERATIONS} operations a product"),
        Row("device: texts to signatures", len(shingles) / both, "documents/s"),
    ]


def host_to_host(texts: TextBytes, perms: Permutations) -> list[Row]:
    """Bytes of text up, signatures down, against bare copies from and to pinned memory."""
    cp = importlib.import_module("cupy")
    documents = len(texts.offsets) - 1
    seconds = best_s(lambda: cuda_text_signatures(texts, N, perms))
    up = cp.cuda.alloc_pinned_memory(texts.data.nbytes + texts.offsets.nbytes)
    down = cp.cuda.alloc_pinned_memory(documents * perms.count * 4)
    source, target = np.frombuffer(up, np.uint8), np.frombuffer(down, np.uint8)
    there, back = cp.empty(len(source), cp.uint8), cp.empty(len(target), cp.uint8)

    def copies() -> None:
        there.set(source)
        back.get(out=target)

    copying = best_s(copies)
    note = f"{(len(source) + len(target)) / copying / 1e9:.1f} GB/s from and to pinned memory, one way after the other"
    return [
        Row("host to host: texts to signatures", documents / seconds, "documents/s"),
        Row("host to host: fraction of the bare copy", copying / seconds, "", note),
    ]


def dropped_ids(path: Path, sign: Callable[[pa.Array], np.ndarray]) -> list[str]:
    """Ids of a Parquet file of texts that resemble an earlier text of a bucket in ALIKE of their signature values."""
    table = pq.read_table(path)
    signed = sign(table.column("text").combine_chunks())
    keys = band_keys(signed, BANDS, ROWS)
    drop = np.zeros(len(signed), np.bool_)
    for band in keys.T:
        order = np.argsort(band, kind="stable")
        fresh = np.concatenate([[True], band[order[1:]] != band[order[:-1]]])
        first = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
        rows = np.flatnonzero(~fresh)
        same = (signed[order[rows]] == signed[first[rows]]).mean(axis=1) >= ALIKE
        drop[order[rows[same]]] = True
    return table.column("id").filter(pa.array(drop)).to_pylist()


def sign_on_cpu(texts: pa.Array, perms: Permutations) -> np.ndarray:
    """The CPU's kernels on one thread."""
    shingles = word_hashes(texts, N)
    return signatures(shingles.hashes, shingles.offsets, perms)


def parquet_to_ids(texts: pa.Array, perms: Permutations) -> list[Row]:
    """The same file by both devices; they must drop the same."""
    sides: dict[str, Callable[[pa.Array], np.ndarray]] = {
        "GPU": lambda column: cuda_text_signatures(text_bytes(column), N, perms)[0],
        "CPU": lambda column: sign_on_cpu(column, perms),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.parquet"
        pq.write_table(pa.table({"id": [f"d{i:08d}" for i in range(len(texts))], "text": texts}), path)
        found = {name: dropped_ids(path, sign) for name, sign in sides.items()}
        if found["GPU"] != found["CPU"]:
            raise RuntimeError(f"the GPU drops {len(found['GPU'])} ids, the CPU {len(found['CPU'])}; their bits differ")
        taken = {name: best_s(lambda s=sign: dropped_ids(path, s)) for name, sign in sides.items()}  # type: ignore[misc]
    note = f"{len(found['GPU'])} dropped"
    return [Row(f"Parquet to ids, {name}", len(texts) / taken[name], "documents/s", note) for name in sides]


def torch_row(shingles: Shingles, perms: Permutations) -> Row:
    """The array code on torch's GPU, hashes already there."""
    name = "device: hashes to signatures, torch"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return Row(name, None, "documents/s", "torch is not installed")
    if not torch.cuda.is_available():
        return Row(name, None, "documents/s", "torch sees no GPU")
    from transforms.deduplication.array_minhash import array_signatures

    held, bounds = (torch.tensor(v, device="cuda") for v in (shingles.hashes.view(np.int64), shingles.offsets))
    return Row(name, len(shingles) / best_s(lambda: array_signatures(held, bounds, perms).sum().item()), "documents/s")


def nemo_row(texts: pa.Array) -> Row:
    """NeMo Curator's GPUMinHash on texts that are on the device, by windows of 24 characters: it knows no words."""
    name = "device: texts to signatures, NeMo Curator"
    try:
        cudf = importlib.import_module("cudf")
        fuzzy = importlib.import_module("nemo_curator.stages.deduplication.fuzzy.minhash")
    except ImportError as error:
        return Row(name, None, "documents/s", f"absent: {error}")
    series = cudf.Series.from_arrow(texts)
    sketch = fuzzy.GPUMinHash(num_hashes=PERMUTATIONS, char_ngrams=24)
    return Row(
        name, len(texts) / best_s(lambda: sketch.compute_minhashes(series)), "documents/s", "24-character windows"
    )


def measure(documents: int) -> list[Row]:
    """Every row of a machine that has a GPU."""
    perms = permutations(PERMUTATIONS, 1)
    distinct = english(min(documents, DISTINCT), min(documents, DISTINCT) // 10)
    texts = pa.concat_arrays([distinct] * math.ceil(documents / len(distinct))).slice(0, documents)
    held, shingles = text_bytes(texts), word_hashes(texts, N)
    signed, sizes = cuda_text_signatures(text_bytes(distinct), N, perms)
    expected = word_hashes(distinct, N)
    if not np.array_equal(sizes, expected.sizes()) or not np.array_equal(
        signed, numpy_signatures(expected.hashes, expected.offsets, perms)
    ):
        raise RuntimeError("the GPU's signatures are not NumPy's: nothing is timed")
    started = time.perf_counter()
    sign_on_cpu(texts, perms)
    on_cpu = documents / (time.perf_counter() - started)
    return [
        Row("corpus", float(documents), "documents", f"{len(held.data) / documents:.0f} bytes on average"),
        *on_device(held, shingles, perms),
        torch_row(shingles, perms),
        nemo_row(texts),
        Row("device: texts to signatures, SEDD", None, "documents/s", "absent: github.com/mcrl/SEDD is no package"),
        *host_to_host(held, perms),
        Row("CPU, one thread: texts to signatures", on_cpu, "documents/s"),
        *parquet_to_ids(texts, perms),
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure where there is a GPU; returns the exit status."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--documents", type=int, default=1_000_000)
    given = arguments.parse_args(argv)
    reason = gpu_or_reason()
    rows = (
        [Row("MinHash on a GPU", None, "documents/s", f"not measured: {reason}")]
        if reason
        else measure(given.documents)
    )
    versions = package_versions("cupy-cuda12x", "cupy-cuda13x", "torch", "nemo-curator", "numpy")
    return finish(Report("MinHash on a GPU", rows, (), versions), given.json, given.check)


if __name__ == "__main__":
    sys.exit(main())
