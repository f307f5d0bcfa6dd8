"""Tiny causal language models of several architectures, with tokenizer and chat template."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from stillwatch.distill.items import Example, Item, item_id_of
from stillwatch.record.exchange import Answer, Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NAMES = {"qwen2": "Qwen2Config", "llama": "LlamaConfig", "gemma2": "Gemma2Config"}
_SEEN = ["user assistant system hello world count twice 0123456789", "### user\n### assistant\n"]

#: Makes a folder: (name, *, kind, template, texts, vocabulary) -> its path.
TinyFolder = Callable[..., Path]


@pytest.fixture
def tiny_folder(tmp_path: Path) -> TinyFolder:
    """Make model folders with new weights; equal arguments give equal weights."""
    import torch
    import transformers
    from transformers.utils import logging

    def make(
        name: str = "tiny",
        *,
        kind: str = "qwen2",
        template: str | None = CHATML,
        texts: Sequence[str] = (),
        vocabulary: int = 300,
    ) -> Path:
        tokenizer = tiny_tokenizer([*_SEEN, *texts], template, vocabulary=vocabulary)
        size, eos = len(tokenizer), tokenizer.eos_token_id
        if kind == "gpt2":
            config = transformers.GPT2Config(
                vocab_size=size, n_positions=128, n_embd=16, n_layer=2, n_head=2,
                bos_token_id=eos, eos_token_id=eos, resid_pdrop=0.1,
            )  # fmt: skip
        else:
            config = getattr(transformers, _NAMES[kind])(
                vocab_size=size, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
                head_dim=8, bos_token_id=None, eos_token_id=eos, pad_token_id=0,
            )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
        logging.disable_progress_bar()
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


def tiny_tokenizer(texts: Sequence[str], template: str | None, *, vocabulary: int = 300) -> object:
    """A byte-level tokenizer as many model families have it."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIALS), initial_alphabet=alphabet,
        show_progress=False,
    )  # fmt: skip
    raw.train_from_iterator(texts, trainer=trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture
def tokenizer_of() -> Callable[..., object]:
    """The tokenizer alone, for tests that need no model."""
    return tiny_tokenizer


@pytest.fixture
def example_of() -> Callable[..., Example]:
    """Make an example from turns and an answer."""

    def make(*turns: tuple[str, str] | Message, answer: str | Answer, tools: tuple = ()) -> Example:
        messages = tuple(t if isinstance(t, Message) else Message(*t) for t in turns)
        said = answer if isinstance(answer, Answer) else Answer(answer, "stop")
        item = Item(item_id=item_id_of(messages, tools), messages=messages, tools=tools)
        return Example(item=item, answer=said)

    return make
