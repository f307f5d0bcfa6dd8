"""Shared by the siege's tests: a model that answers nonsense, but as any house model would."""

import string
from pathlib import Path

import pytest

from stillwatch.model.folder import (
    ChatTokenizer,
    GenerationDefaults,
    save_model,
    write_character_tokenizer,
)


def _write_tiny_model(out: Path, *, temperature: float = 0.0, seed: int = 0) -> Path:
    """Write a Llama of width 16 with one layer and a tokenizer of single characters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    alphabet = string.ascii_letters + string.digits + " .,?!-/:"
    file = write_character_tokenizer(alphabet, out.with_suffix(".tokenizer.json"))
    tokenizer = ChatTokenizer(file)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=96,
        initializer_range=0.5,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    defaults = GenerationDefaults(temperature, 12)
    save_model(model, tokenizer=tokenizer, defaults=defaults, out=out)
    return out


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder with random weights."""
    return _write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
