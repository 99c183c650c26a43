"""Exact copies: a star from the smallest id of each content, for any batching."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.transforms.deduplication.documents import write_sets
from transforms.deduplication.contents import content_rows, repeats
from transforms.deduplication.document_files import DocumentFiles, Layout, write_documents
from transforms.deduplication.text_documents import TextParams, text_documents

TEXTS = {"d": "one text", "b": "one text", "a": "another", "c": "one text", "h": "!!!", "i": "!!!"}
TEXTS |= {"e": "", "f": None, "g": ""}


def linked(folder, names, size, partitions=3):
    table = pa.table([names, [TEXTS[name] for name in names]], ["id", "text"])
    batches = [text_documents(batch, TextParams()) for batch in table.to_batches(max_chunksize=size)]
    paths = [write_documents(folder, f"{i}", [batch]) for i, batch in enumerate(batches)]
    files = DocumentFiles(paths, Layout())
    parts: dict[int, list[pa.RecordBatch]] = {}
    for path in paths:
        for part, batch in content_rows(files, path, partitions):
            parts.setdefault(part, []).append(batch)
    found = set()
    for batches in parts.values():
        for row in repeats(batches).to_pylist():
            a, b = (files.ids(pa.array([row[end]]).to_numpy())[0].as_py() for end in ("a", "b"))
            found.add((a, b))
    return found


@pytest.mark.parametrize("names", [list(TEXTS), list(reversed(TEXTS))])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_smallest_id_stands_for_its_copies_and_nothing_is_no_content(tmp_path, names, size):
    assert linked(tmp_path, names, size) == {("b", "c"), ("b", "d"), ("h", "i")}


def test_a_document_without_an_id_is_refused():
    batch = pa.record_batch([pa.array(["a", None]), pa.array(["x", "y"])], ["id", "text"])
    with pytest.raises(ValueError, match="row 1 of a batch has no id; every document needs one"):
        text_documents(batch, TextParams())


def test_an_ngram_of_no_words_is_refused():
    with pytest.raises(ValueError, match=r"dedup.ngram is 0; a shingle needs at least 1 word"):
        TextParams(0)


def test_what_was_read_of_many_files_does_not_stay_in_memory(tmp_path):
    paths = write_sets(tmp_path, {f"d{i:03d}": range(i, i + 40_000) for i in range(20)}, files=10)
    files = DocumentFiles(paths, Layout())
    rows = np.sort(np.concatenate([(np.arange(10) << 32), (np.arange(10) << 32) + 1]))
    assert files.shingles(rows).offsets.tolist() == [40_000 * i for i in range(21)]
    assert files.sizes(rows).tolist() == [8 * 40_000] * 20  # the files are mapped still
    smaps = Path("/proc/self/smaps").read_text().split(str(tmp_path))[1:]
    held = [int(own.split("Rss:")[1].split()[0]) for own in smaps]
    assert len(smaps) == 10 and sum(held) < 100  # kB, of 6,400
