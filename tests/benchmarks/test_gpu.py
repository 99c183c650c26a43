"""The GPU benchmark where there is no GPU: it says so, and its way from Parquet to ids is right on the CPU."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks import gpu
from transforms.deduplication.minhash import permutations


def test_without_a_gpu_the_report_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "gpu_or_reason", lambda: "CuPy sees no GPU")
    out = tmp_path / "gpu.json"
    assert gpu.main(["--json", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["value"] is None and row["note"] == "not measured: CuPy sees no GPU"


def test_ids_of_later_copies_are_dropped(tmp_path):
    words = [f"word{i}" for i in range(60)]
    first, other = " ".join(words[:40]), " ".join(words[20:])
    near = first.replace("word39", "changed")
    texts = pa.array([first, other, first.upper(), near, "one more text of seven words here"])
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"id": list("abcde"), "text": texts}), path)
    perms = permutations(256, 1)
    assert gpu.dropped_ids(path, lambda column: gpu.sign_on_cpu(column, perms)) == ["c", "d"]


def test_a_rival_that_is_absent_is_named(monkeypatch):
    row = gpu.nemo_row(pa.array(["a"]))
    if row.value is not None:
        pytest.skip("NeMo Curator is installed here")
    assert row.note.startswith("absent: ")
