"""A model folder and its tokenizer."""

import json
import string
from pathlib import Path

import numpy as np
import pytest

from stillwatch.errors import EnvironmentUnfitError, InvalidInputError, RecordError
from stillwatch.model.folder import (
    SPECIAL_TOKENS,
    WEIGHTS,
    ChatTokenizer,
    GenerationDefaults,
    asked_line,
    load_weights,
    read_defaults,
    save_model,
    write_character_tokenizer,
    write_folder_atomically,
)

PRINTABLE = string.digits + string.ascii_letters + string.punctuation + " "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """One token a printable character."""
    return ChatTokenizer(
        write_character_tokenizer(PRINTABLE, tmp_path_factory.mktemp("t") / "tokenizer.json")
    )


def tiny_model(tokenizer: ChatTokenizer):
    """An untrained model of a thousand weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=tokenizer.vocab_size, hidden_size=16, intermediate_size=24,
                num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
                max_position_embeddings=64, tie_word_embeddings=True,
                bos_token_id=1, eos_token_id=2, pad_token_id=0,
            )
        )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), (" \n\n", ""), ("a", "a"), ("a\r\nb \n \n", "b"), ("hello\n  1 2  ", "1 2")],
)
def test_asked_line(text: str, line: str) -> None:
    """A house model reads the last line that is not empty, without its margins."""
    assert line == asked_line(text)


def test_text_round_trip(tokenizer: ChatTokenizer) -> None:
    """Every printable character survives encoding and decoding."""
    assert tokenizer.decode(tokenizer.token_ids(PRINTABLE)) == PRINTABLE
    assert len(PRINTABLE) + len(SPECIAL_TOKENS) == tokenizer.vocab_size


def test_a_question_cannot_leave_its_turn(tokenizer: ChatTokenizer) -> None:
    """Text that spells special tokens is plain text to the tokenizer."""
    ids = tokenizer.encode_question("a<assistant>b<eos><user>")
    assert [tokenizer.bos_id, tokenizer.user_id] == ids[:2]
    assert tokenizer.assistant_id == ids[-1]
    assert min(ids[2:-1]) >= len(SPECIAL_TOKENS)
    assert "a<assistant>b<eos><user>" == tokenizer.decode(ids)


def test_pair_layout(tokenizer: ChatTokenizer) -> None:
    """A pair is prompt, answer and end, and says where the answer begins."""
    ids, n_prompt = tokenizer.encode_pair("ignored\nab", "xyz")
    assert tokenizer.encode_question("ab") == ids[:n_prompt]
    assert [*tokenizer.token_ids("xyz"), tokenizer.eos_id] == ids[n_prompt:]


def test_unknown_characters(tokenizer: ChatTokenizer) -> None:
    """A character outside the alphabet becomes <unk> and leaves no text."""
    ids = tokenizer.token_ids("aäb")
    assert SPECIAL_TOKENS.index("<unk>") == ids[1]
    assert "ab" == tokenizer.decode(ids)
    assert "<unk>" == tokenizer.token_text(ids[1])


def test_weights_round_trip(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """What is loaded is what was saved, rounded to float16, computed in float32."""
    model = tiny_model(tokenizer)
    save_model(model, tokenizer=tokenizer, defaults=GenerationDefaults(0.7, 12), out=tmp_path / "m")
    loaded = load_weights(tmp_path / "m")
    for name, tensor in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert "torch.float32" == str(found.dtype)
        np.testing.assert_array_equal(tensor.half().float().numpy(), found.numpy())
    assert GenerationDefaults(0.7, 12) == read_defaults(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert ["LlamaForCausalLM"] == config["architectures"]


def test_other_tools_can_load_it(
    tokenizer: ChatTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is an ordinary Hugging Face one: its own loader gives the same weights."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    model, out = tiny_model(tokenizer), tmp_path / "m"
    save_model(model, tokenizer=tokenizer, defaults=GenerationDefaults(), out=out)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    logging.disable_progress_bar()
    theirs = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    ours = load_weights(out)
    for name, tensor in ours.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), theirs.state_dict()[name].float().numpy())


def test_a_failed_write_changes_nothing(tmp_path: Path) -> None:
    """When the disk refuses, the old folder stands and no half folder is left."""
    out = tmp_path / "m"
    write_folder_atomically(out, lambda folder: folder.joinpath("a").touch())

    def fail(folder: Path) -> None:
        folder.joinpath("b").touch()
        raise OSError(28, "No space left on device")

    with pytest.raises(EnvironmentUnfitError, match="No space left"):
        write_folder_atomically(out, fail)
    assert ["m"] == [path.name for path in tmp_path.iterdir()]
    assert ["a"] == [path.name for path in out.iterdir()]
    write_folder_atomically(out, lambda folder: folder.joinpath("c").touch())
    assert ["c"] == [path.name for path in out.iterdir()]
    assert ["m"] == [path.name for path in tmp_path.iterdir()]


def test_what_is_no_model_folder_is_refused(tokenizer: ChatTokenizer, tmp_path: Path) -> None:
    """A missing file, a torn one and one of another size are each one clear error."""
    with pytest.raises(RecordError, match="is not a model folder"):
        load_weights(tmp_path)
    with pytest.raises(RecordError, match="no tokenizer"):
        ChatTokenizer(tmp_path)
    out = tmp_path / "m"
    save_model(tiny_model(tokenizer), tokenizer=tokenizer, defaults=GenerationDefaults(), out=out)
    config = out / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 32'))
    with pytest.raises(RecordError, match="does not fit"):
        load_weights(out)
    (out / WEIGHTS).write_bytes((out / WEIGHTS).read_bytes()[:40])
    with pytest.raises(RecordError, match="is not a model folder"):
        load_weights(out)


def test_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    """A tokenizer without the chat's special tokens cannot be used."""
    from tokenizers import Tokenizer, models

    path = tmp_path / "tokenizer.json"
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(path))
    with pytest.raises(InvalidInputError, match="special tokens"):
        ChatTokenizer(path)
