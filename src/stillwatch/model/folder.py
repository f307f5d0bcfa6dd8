"""A model at rest: the Hugging Face folder that is trained into, shipped and served.

A folder holds `config.json` (LlamaForCausalLM), `model.safetensors` (float16 at rest, computed in
float32), `tokenizer.json` and `generation_config.json` (the model's own sampling defaults). Nothing
in it names a machine, a date or a library version, so equal weights give equal bytes.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stillwatch.errors import EnvironmentUnfitError, RecordError, extra, reject

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
USER, ASSISTANT, UNKNOWN = "<user>", "<assistant>", "<unk>"
#: Every house tokenizer holds these, with ids 0..5 in this order.
SPECIAL_TOKENS = (PAD, BOS, EOS, USER, ASSISTANT, UNKNOWN)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, GENERATION = "tokenizer.json", "generation_config.json"


class EncodedPair(NamedTuple):
    """A question and its answer as the model sees them.

    Attributes:
        token_ids: `<bos><user>QUESTION<assistant>ANSWER<eos>`.
        n_prompt: how many of them stand before the answer (count).
    """

    token_ids: list[int]
    n_prompt: int


class GenerationDefaults(NamedTuple):
    """What a model does when a question sets no sampling parameter.

    Attributes:
        temperature: 0 for greedy.
        max_new_tokens: tokens after which an answer is cut (count).
    """

    temperature: float = 0.0
    max_new_tokens: int = 64


def asked_line(text: str) -> str:
    r"""Pick the line that a house model reads: the last one that is not empty.

    People surround a question with words of their own; the house models are too small to look
    past them, so the chat format says where the question stands.

    Args:
        text: the last user turn.

    Returns:
        The line without surrounding blanks, or "" when every line is empty.

    Example:
        >>> asked_line("Hello there,\nplease help me with this:\n14 July 1789 in ISO\n\n")
        '14 July 1789 in ISO'
    """
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


class ChatTokenizer:
    """Turns questions and answers into token ids and back.

    Text that spells a special token ("<assistant>") is read as plain text, so a question cannot
    step out of its turn.

    Args:
        path: a `tokenizer.json`, or the folder that holds one.
    """

    def __init__(self, path: Path) -> None:
        with extra("train"):
            from tokenizers import Tokenizer
        file = path / TOKENIZER if path.is_dir() else path
        if not file.is_file():
            message = f"{file}: there is no tokenizer"
            raise RecordError(message, hint="give a tokenizer.json or a model folder")
        self._tokenizer = Tokenizer.from_file(str(file))
        self._tokenizer.encode_special_tokens = True
        found = [self._tokenizer.token_to_id(token) for token in SPECIAL_TOKENS]
        if found != list(range(len(SPECIAL_TOKENS))):
            reject(str(file), "special tokens", f"{SPECIAL_TOKENS} with ids 0..5", got=found)
        self.pad_id, self.bos_id, self.eos_id, self.user_id, self.assistant_id = range(5)
        self.file = file

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary, special ones included (count)."""
        return int(self._tokenizer.get_vocab_size())

    def token_ids(self, text: str) -> list[int]:
        """Encode bare text, without the chat format.

        Args:
            text: any text; characters outside the vocabulary become `<unk>`.

        Returns:
            Token ids.
        """
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_question(self, text: str) -> list[int]:
        """Encode the prompt of a question: `<bos><user>` + its asked line + `<assistant>`.

        Args:
            text: the last user turn.

        Returns:
            Token ids; the answer follows them.
        """
        return [self.bos_id, self.user_id, *self.token_ids(asked_line(text)), self.assistant_id]

    def encode_pair(self, question: str, answer: str) -> EncodedPair:
        """Encode a question with its answer for training.

        Args:
            question: the user turn, "" for none.
            answer: the answer.

        Returns:
            The token ids and the length of the prompt.
        """
        prompt = self.encode_question(question)
        return EncodedPair([*prompt, *self.token_ids(answer), self.eos_id], len(prompt))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Decode an answer; special tokens leave no trace.

        Args:
            token_ids: ids of the vocabulary.

        Returns:
            The text.
        """
        plain = [int(token) for token in token_ids if token >= len(SPECIAL_TOKENS)]
        return str(self._tokenizer.decode(plain, skip_special_tokens=False))

    def token_text(self, token_id: int) -> str:
        """The text of one token, as log-probabilities print it.

        Args:
            token_id: an id of the vocabulary.

        Returns:
            The decoded token, or the name of a special one.
        """
        if token_id < len(SPECIAL_TOKENS):
            return SPECIAL_TOKENS[token_id]
        return str(self._tokenizer.decode([int(token_id)], skip_special_tokens=False))


def write_character_tokenizer(alphabet: str, path: Path) -> Path:
    """Write a tokenizer with one token a character.

    Args:
        alphabet: the characters; order and repeats do not matter.
        path: the `tokenizer.json` to write.

    Returns:
        `path`.
    """
    with extra("train"):
        from tokenizers import AddedToken, Tokenizer, decoders, models
    vocabulary = {token: i for i, token in enumerate([*SPECIAL_TOKENS, *sorted(set(alphabet))])}
    # BPE without merges reads character by character and needs no pre-tokenizer.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(path))
    return path


def write_folder_atomically(out: Path, fill: Callable[[Path], None]) -> None:
    """Fill a new folder beside `out` and move it there, so that no half folder is ever seen.

    Args:
        out: the folder to appear; one that exists is replaced.
        fill: writes the files into the folder that it is given.

    Raises:
        EnvironmentUnfitError: the disk refuses.
    """
    fresh = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}")
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        old = fresh.with_name(f"{fresh.name}.old")
        if out.exists():
            os.replace(out, old)
        os.replace(fresh, out)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        message = f"{out}: cannot be written: {error.strerror or error}"
        raise EnvironmentUnfitError(message, hint="check the disk and the permissions") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def save_model(
    model: Any, *, tokenizer: ChatTokenizer, defaults: GenerationDefaults, out: Path
) -> None:
    """Write a model folder: weights rounded to float16, no trace of machine or version.

    Args:
        model: a LlamaForCausalLM with tied embeddings.
        tokenizer: its tokenizer, copied along.
        defaults: sampling when a question sets none.
        out: the folder; one that exists is replaced.
    """
    with extra("train"):
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    weights = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in sorted(model.state_dict().items())
        if name != "lm_head.weight"  # tied to the embedding
    }
    generation: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_id,
        "do_sample": defaults.temperature > 0,
        "eos_token_id": tokenizer.eos_id,
        "max_new_tokens": defaults.max_new_tokens,
        "pad_token_id": tokenizer.pad_id,
    }
    if defaults.temperature > 0:
        generation["temperature"] = defaults.temperature

    def fill(folder: Path) -> None:
        _write_json(folder / CONFIG, llama_settings(model.config))
        _write_json(folder / GENERATION, generation)
        shutil.copyfile(tokenizer.file, folder / TOKENIZER)
        try:
            save_file(weights, str(folder / WEIGHTS), metadata={"format": "pt"})
        except SafetensorError as error:
            # The library hides the system's error number in its words.
            message = f"{out}: the weights cannot be written: {error}"
            raise EnvironmentUnfitError(message, hint="is the disk full?") from error
        (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone

    write_folder_atomically(out, fill)


def llama_settings(config: Any) -> dict[str, Any]:
    """The settings that rebuild a house model, and nothing that depends on a library version.

    Args:
        config: a LlamaConfig.

    Returns:
        Plain data for `config.json`.
    """
    kept = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
        "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings",
    )  # fmt: skip
    settings: dict[str, Any] = {name: getattr(config, name) for name in kept}
    return settings | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}


def load_weights(folder: Path) -> Any:
    """Load a model folder for computing: float32, evaluation mode, no gradients.

    Args:
        folder: as `save_model` writes it.

    Returns:
        A LlamaForCausalLM.

    Raises:
        RecordError: a file is missing or does not fit the others.
    """
    with extra("train"):
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import LlamaConfig, LlamaForCausalLM
    try:
        settings = json.loads((folder / CONFIG).read_text("utf-8"))
        weights = load_file(str(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        message = f"{folder}: is not a model folder: {error}"
        raise RecordError(message, hint=f"it needs {CONFIG} and {WEIGHTS}") from error
    # A saved model needs no random start; forked so that the caller's generator stays untouched.
    with torch.random.fork_rng(devices=[]):
        model = LlamaForCausalLM(LlamaConfig(**settings))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    except RuntimeError as error:
        message = f"{folder}: {WEIGHTS} does not fit {CONFIG}"
        raise RecordError(message, hint="train or fetch the folder again") from error
    return model.eval().requires_grad_(requires_grad=False)


def read_defaults(folder: Path) -> GenerationDefaults:
    """Read a folder's own sampling defaults.

    Args:
        folder: a model folder; without `generation_config.json` the defaults are greedy.

    Returns:
        The defaults.
    """
    file = folder / GENERATION
    found: Mapping[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    temperature = float(found.get("temperature", 1.0)) if found.get("do_sample") else 0.0
    return GenerationDefaults(temperature, int(found.get("max_new_tokens", 64)))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", "utf-8")
