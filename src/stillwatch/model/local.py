"""A model in this process: batched generation from a model folder, on one CPU thread.

The chat format is `<bos><user>QUESTION<assistant>ANSWER<eos>`, and QUESTION is only the last
non-empty line of the last user turn (`folder.asked_line`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from stillwatch.errors import extra
from stillwatch.model.decode import (
    DecodedBatch,
    Generation,
    GenerationRow,
    LogitBias,
    TokenChoice,
    check_row,
    generate_by_length,
)
from stillwatch.model.folder import ChatTokenizer, GenerationDefaults, load_weights, read_defaults
from stillwatch.model.protocol import Question, Reply
from stillwatch.model.replies import logprobs_of
from stillwatch.model.token_bytes import read_vocabulary
from stillwatch.record.exchange import Answer, canonical_json

__all__ = ["MAX_BATCH", "Generation", "GenerationRow", "LocalModel", "LogitBias", "TokenChoice"]

#: Rows of one forward pass: beyond it the CPU time of an answer no longer falls (docs/training.md).
MAX_BATCH = 128


class LocalModel:
    """A model folder, loaded and ready to generate; implements `Model`.

    Not for several threads at once. Use `load`.

    Args:
        model: a LlamaForCausalLM in evaluation mode.
        tokenizer: its tokenizer.
        name: the name that reports print.
        defaults: sampling when a question sets none.
    """

    def __init__(
        self, model: Any, tokenizer: ChatTokenizer, *, name: str, defaults: GenerationDefaults
    ) -> None:
        self._model = model
        self.tokenizer = tokenizer
        self.defaults = defaults
        self._name = name
        self.context = int(model.config.max_position_embeddings)

    @classmethod
    def load(cls, folder: Path, *, name: str | None = None) -> Self:
        """Load a model folder.

        Args:
            folder: as training writes it.
            name: the name that reports print; the folder's name by default.

        Returns:
            The model.
        """
        return cls(
            load_weights(folder),
            ChatTokenizer(folder),
            name=name or folder.name,
            defaults=read_defaults(folder),
        )

    @property
    def name(self) -> str:
        """The model's name as reports print it."""
        return self._name

    @property
    def vocab_size(self) -> int:
        """Tokens in the vocabulary (count)."""
        return int(self._model.config.vocab_size)

    @property
    def n_parameters(self) -> int:
        """Weights, the tied embedding counted once (count)."""
        return sum(int(p.numel()) for p in self._model.parameters())

    def encode_question(self, text: str) -> list[int]:
        """Encode the prompt of a question; see `ChatTokenizer.encode_question`.

        Args:
            text: the last user turn.

        Returns:
            Token ids.
        """
        return self.tokenizer.encode_question(text)

    def token_ids(self, text: str) -> list[int]:
        """Encode bare text, without the chat format.

        Args:
            text: any text.

        Returns:
            Token ids.
        """
        return self.tokenizer.token_ids(text)

    def generate(self, rows: Sequence[GenerationRow]) -> list[Generation]:
        """Generate an answer a row, in batches of rows of like length.

        A row's answer does not depend on the rows beside it, except that float32 sums may differ
        in the last bit and so turn a tie.

        Args:
            rows: any number.

        Returns:
            One generation a row, in order.
        """
        with extra("train"):
            import torch
        for row in rows:
            check_row(row, name=self.name, context=self.context)
        with torch.inference_mode():
            return generate_by_length(
                rows,
                batch_size=MAX_BATCH,
                run=lambda batch: DecodedBatch(self._model, self.tokenizer, batch).run(),
            )

    async def answer(self, questions: Sequence[Question]) -> list[Reply]:
        """Answer a batch in a thread; parameters by OpenAI Chat Completions names.

        Args:
            questions: any number; `temperature`, `top_p`, `seed`, `max_tokens` (or
                `max_completion_tokens`), `logprobs` and `top_logprobs` are read, others ignored.

        Returns:
            One reply a question, in order.
        """
        rows = [self._row(question) for question in questions]
        generations = await asyncio.to_thread(self.generate, rows)
        return [
            Reply(
                answers=(self._answer(found),),
                model_returned=self.name,
                input_tokens=len(found.prompt_ids),
                output_tokens=len(found.token_ids),
            )
            for found in generations
        ]

    def _answer(self, found: Generation) -> Answer:
        extra = None
        if found.choices is not None:
            extra = canonical_json({"logprobs": logprobs_of(found.choices, self._words)})
        return Answer(text=found.text, finish_reason=found.finish_reason, extra=extra)

    @cached_property
    def _words(self) -> tuple[bytes, ...]:
        return read_vocabulary(self.tokenizer.file.read_text("utf-8"))

    def _row(self, question: Question) -> GenerationRow:
        turns = [m.content for m in question.messages if m.role == "user"]
        asked = question.parameters
        limit = asked.get("max_completion_tokens", asked.get("max_tokens"))
        return GenerationRow(
            prompt_ids=self.encode_question(turns[-1] if turns else ""),
            max_new_tokens=int(limit or self.defaults.max_new_tokens),
            temperature=float(asked.get("temperature", self.defaults.temperature)),
            top_p=float(asked.get("top_p", 1.0)),
            seed=int(asked.get("seed") or 0),
            n_top=int(asked.get("top_logprobs") or 0) if asked.get("logprobs") else None,
        )
