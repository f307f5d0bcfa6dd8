"""Any causal language model in a Hugging Face folder, in this process: batched, seeded answers.

transformers' own `generate` drives the model, so that every architecture's cache is its author's;
what is ours is the choice of the token, because every row has its own seed, temperature and length.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from stillwatch.errors import RecordError, extra, reject
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.decode import Generation, GenerationRow, check_row, generate_by_length
from stillwatch.model.folder import CONFIG, GENERATION, SPECIAL_TOKENS, TOKENIZER
from stillwatch.model.generate import generate_batch
from stillwatch.model.local import LocalModel
from stillwatch.model.protocol import Model, Question, Reply
from stillwatch.model.replies import Asked, asked_of, reply_of

__all__ = ["ADAPTER", "HuggingFaceModel", "is_house_folder", "open_folder"]

ADAPTER = "adapter_config.json"
#: Answers are cut here when neither the question nor the folder sets a length.
_MAX_NEW_TOKENS = 512


class HuggingFaceModel:
    """A causal language model with its chat template; implements `Model`.

    Not for several threads at once. Use `load`.

    Args:
        model: a causal language model of transformers.
        template: its tokenizer and chat template.
        name: the name that reports print.
        batch_size: rows of one forward pass (count).
    """

    def __init__(
        self, model: Any, template: ChatTemplate, *, name: str, batch_size: int = 32
    ) -> None:
        if batch_size < 1:
            reject(f"model {name}", "batch_size", "at least 1", got=batch_size)
        self._model = model
        self.template = template
        self._name = name
        self.batch_size = batch_size
        found = model.generation_config
        self.temperature = float(found.temperature or 1.0) if found.do_sample else 0.0
        self.top_p = float(found.top_p or 1.0) if found.do_sample else 1.0
        self.max_new_tokens = int(found.max_new_tokens or _MAX_NEW_TOKENS)
        self.context = max_context(model.config)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        name: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
    ) -> Self:
        """Load a model folder.

        Args:
            folder: a folder in the Hugging Face shape, whole weights or an adapter, or a name on a
                hub that transformers can reach.
            name: the name that reports print; the folder's name by default.
            device: "cpu", "cuda", "cuda:1"; "auto" takes a GPU where there is one.
            precision: "float32", "bfloat16", or "auto": float32 on a processor and bfloat16 on a
                GPU.
            batch_size: rows of one forward pass (count).

        Returns:
            The model.
        """
        where = device_of(device)
        model = load_causal(folder, precision=precision_of(precision, device=where))
        model = model.to(where).eval().requires_grad_(requires_grad=False)
        template = ChatTemplate.load(folder, eos_ids=eos_ids_of(model))
        given = name or Path(folder).name
        return cls(model, template, name=given, batch_size=batch_size)

    @property
    def name(self) -> str:
        """The model's name as reports print it."""
        return self._name

    @property
    def vocab_size(self) -> int:
        """Logits a position, padding of the vocabulary included (count)."""
        return int(self._model.get_output_embeddings().weight.shape[0])

    @property
    def n_parameters(self) -> int:
        """Weights, tied ones counted once (count)."""
        return sum(int(p.numel()) for p in self._model.parameters())

    def encode_question(self, question: Question) -> list[int]:
        """Encode a question's prompt by the chat template.

        Args:
            question: its messages, and its `tools` parameter, are read.

        Returns:
            Token ids; the answer follows them.
        """
        tools = question.parameters.get("tools") or ()
        return self.template.token_ids(self.template.prompt(question.messages, tools=tools))

    def generate(self, rows: Sequence[GenerationRow]) -> list[Generation]:
        """Generate an answer a row, in batches of rows of like length.

        Args:
            rows: any number; each with its own length, temperature, top_p, seed and bias.

        Returns:
            One generation a row, in order.
        """
        for row in rows:
            check_row(row, name=self.name, context=self.context)
        return generate_by_length(
            rows,
            batch_size=self.batch_size,
            run=lambda batch: generate_batch(self._model, self.template, batch),
        )

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch in a thread; parameters by OpenAI Chat Completions names.

        Args:
            questions: any number; `temperature`, `top_p`, `seed`, `n`, `max_completion_tokens`
                (or `max_tokens`), `stop`, `tools`, `logprobs` and `top_logprobs` are read, others
                ignored.

        Returns:
            One reply a question, in order.
        """
        asked = [asked_of(question, name=self.name) for question in questions]
        prompts = [self.encode_question(question) for question in questions]
        rows = [
            row
            for one, prompt in zip(asked, prompts, strict=True)
            for row in self._rows(one, prompt)
        ]
        found = iter(await asyncio.to_thread(self.generate, rows))
        return [
            reply_of([next(found) for _ in range(one.n)], one, template=self.template)
            for one in asked
        ]

    def _rows(self, asked: Asked, prompt_ids: list[int]) -> list[GenerationRow]:
        room = max(1, self.context - len(prompt_ids))
        limit = min(asked.max_new_tokens or self.max_new_tokens, room)
        return [
            GenerationRow(
                prompt_ids=prompt_ids,
                max_new_tokens=limit,
                temperature=self.temperature if asked.temperature is None else asked.temperature,
                top_p=self.top_p if asked.top_p is None else asked.top_p,
                seed=seed,
                n_top=asked.n_top,
            )
            for seed in asked.seeds
        ]


def open_folder(folder: Path, *, name: str | None = None, device: str = "auto") -> Model:
    """Open a model folder of either kind.

    Args:
        folder: as the package trains it, or any causal language model's.
        name: the name that reports print; the folder's name by default.
        device: for models that are not house models; those run on one processor thread.

    Returns:
        A `LocalModel` for a house folder, a `HuggingFaceModel` for any other.
    """
    if is_house_folder(folder):
        return LocalModel.load(folder, name=name)
    return HuggingFaceModel.load(folder, name=name, device=device)


def is_house_folder(folder: Path) -> bool:
    """Say whether a folder holds a small house model, with its own chat format.

    Args:
        folder: any folder.

    Returns:
        Whether its tokenizer begins with the house's special tokens.
    """
    try:
        found = json.loads((folder / TOKENIZER).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    added = sorted(found.get("added_tokens") or [], key=lambda token: int(token["id"]))
    first = [(token["id"], token["content"]) for token in added[: len(SPECIAL_TOKENS)]]
    # A folder with a template of its own is read by that template, whatever its tokens are called.
    own = (folder / "chat_template.jinja").exists() or (folder / "tokenizer_config.json").exists()
    return first == list(enumerate(SPECIAL_TOKENS)) and not own


def load_causal(folder: Path | str, *, precision: str) -> Any:
    """Load a causal language model's weights.

    Args:
        folder: whole weights or an adapter, or a name on a hub.
        precision: "float32" or "bfloat16".

    Returns:
        The model on the processor; an adapter is merged into its base.

    Raises:
        RecordError: transformers cannot read it.
    """
    with extra("train"):
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    adapter = Path(folder) / ADAPTER
    try:
        if adapter.is_file():
            with extra("train"):
                from peft import AutoPeftModelForCausalLM
            with quiet(), warnings.catch_warnings():
                # peft asks transformers by an old name.
                warnings.simplefilter("ignore", FutureWarning)
                found = AutoPeftModelForCausalLM.from_pretrained(str(folder), dtype=dtype)
            merged = found.merge_and_unload()
            if (Path(folder) / GENERATION).is_file():
                merged.generation_config = GenerationConfig.from_pretrained(str(folder))
            return merged
        with quiet():
            return AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype)
    except (OSError, ValueError, KeyError) as error:
        message = f"{folder}: is not a causal language model that transformers reads"
        hint = f"it needs {CONFIG}, weights and {TOKENIZER}"
        raise RecordError(message, hint=hint) from error


def eos_ids_of(model: Any) -> tuple[int, ...]:
    """Find the tokens that end an answer in a model's generation settings.

    Args:
        model: a causal language model of transformers.

    Returns:
        Token ids; () when `generation_config.json` names none.
    """
    found = model.generation_config.eos_token_id
    if found is None:
        return ()
    return tuple(int(i) for i in (found if isinstance(found, list | tuple) else [found]))


def device_of(device: str) -> str:
    """Choose the device.

    Args:
        device: "auto", or a device by torch's name.

    Returns:
        A device by torch's name.
    """
    with extra("train"):
        import torch
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if has_gpu else "cpu"
    if device.startswith("cuda") and not has_gpu:
        hint = "leave device at auto, or install torch for your GPU"
        reject("device", "device", "cpu on a machine without a GPU", got=device, hint=hint)
    return device


def precision_of(precision: str, *, device: str) -> str:
    """Choose the precision.

    Args:
        precision: "auto", "float32" or "bfloat16".
        device: where it is computed.

    Returns:
        "float32" or "bfloat16".
    """
    if precision == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if precision not in {"float32", "bfloat16"}:
        reject("precision", "precision", "auto, float32 or bfloat16", got=precision)
    return precision


def max_context(config: Any) -> int:
    """Find the longest conversation that a model was made for.

    Args:
        config: a model's configuration.

    Returns:
        Tokens (count); a million for recurrent models, which have no end.
    """
    inner = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(found := getattr(inner, name, None), int):
            return found
    return 1 << 20


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars, which are not ours to print."""
    with extra("train"):
        from transformers.utils import logging
    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
