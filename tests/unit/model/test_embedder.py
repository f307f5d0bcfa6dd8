"""A local embedder folder gives unit vectors, one a text, whatever else is in the batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.model.embedder import SentenceEmbedder

WORDS = ("[PAD]", "[UNK]", "what", "is", "a", "kernel", "mean", "?")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with random weights, saved as sentence-transformers saves one."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("embedder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=128,
    )  # fmt: skip
    BertModel(config).save_pretrained(path)
    table = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_vectors_are_unit_and_a_text_s_own(folder: Path) -> None:
    """A short text beside a long one, which pads it, gives what it gives alone."""
    embed = SentenceEmbedder.load(folder)
    texts = ["what is a kernel mean ?" * 9, "kernel", "what ?", "mean " * 400]
    together = embed(texts)
    alone = np.concatenate([embed([text]) for text in texts])
    assert (4, 16) == together.shape
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-5
    assert np.abs(together - alone).max() < 1e-5
    assert (0, 16) == embed([]).shape


def test_pooling_follows_the_folder(folder: Path) -> None:
    """A folder that says so is pooled by its first token."""
    mean = SentenceEmbedder.load(folder)(["what is a kernel"])
    (folder / "1_Pooling").mkdir()
    settings = {"pooling_mode_cls_token": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    first = SentenceEmbedder.load(folder)(["what is a kernel"])
    assert np.abs(mean - first).max() > 1e-3


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    """What is missing is named; nothing is looked up elsewhere."""
    with pytest.raises(InvalidInputError, match=r"config\.json"):
        SentenceEmbedder.load(tmp_path)
