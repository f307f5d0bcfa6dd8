"""Log-likelihoods of given continuations, for tasks that choose the likeliest of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from stillwatch.errors import extra
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.folder import ChatTokenizer, load_weights
from stillwatch.model.huggingface import (
    device_of,
    is_house_folder,
    load_causal,
    max_context,
    precision_of,
)
from stillwatch.record.exchange import Message

Context = str | tuple[Message, ...]


class _Encoder(Protocol):
    """Cuts context and continuation into tokens."""

    def encode(self, context: Context, continuation: str) -> tuple[list[int], list[int]]:
        """Token ids of the context, at least one, and of the continuation."""


class _Pair(NamedTuple):
    context_ids: list[int]
    continuation_ids: list[int]


class _ChatEncoder:
    """By a chat template; bare text is read as it stands."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template

    def encode(self, context: Context, continuation: str) -> tuple[list[int], list[int]]:
        if not isinstance(context, str):
            # A template ends where the answer begins: what follows is cut there too.
            before = self._template.token_ids(self._template.prompt(context))
            return before, self._template.token_ids(continuation.lstrip(" "))
        # Together, because a tokenizer may join the end of one with the beginning of the other;
        # space between them belongs to what follows.
        whole = self._template.token_ids(context + continuation)
        before = self._template.token_ids(context.rstrip())
        if not before:  # something must foretell the first token
            return [self._template.eos_ids[0]], whole
        return whole[: len(before)], whole[len(before) :]


class _HouseEncoder:
    """By the house models' format: the last line of the last user turn is the question."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, context: Context, continuation: str) -> tuple[list[int], list[int]]:
        asked = (
            context
            if isinstance(context, str)
            else next((m.content for m in reversed(context) if m.role == "user"), "")
        )
        answer = continuation.lstrip(" ")
        return self._tokenizer.encode_question(asked), self._tokenizer.token_ids(answer)


class Likelihoods:
    """Scores continuations by a model folder's weights. Use `load`.

    Args:
        model: a causal language model of transformers, in evaluation mode.
        encoder: what cuts texts into tokens.
        context: longest sequence that the model reads (tokens).
        batch_size: rows of one forward pass (count).
    """

    def __init__(
        self, model: Any, encoder: _Encoder, *, context: int, batch_size: int = 32
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._context = context
        self._batch_size = batch_size

    @classmethod
    def load(cls, folder: Path, *, device: str = "auto", batch_size: int = 32) -> Self:
        """Load a model folder of either kind.

        Args:
            folder: a house folder, or any causal language model's.
            device: "cpu", "cuda" or "auto".
            batch_size: rows of one forward pass (count).

        Returns:
            The scorer.
        """
        if is_house_folder(folder):
            model = load_weights(folder)
            limit = int(model.config.max_position_embeddings)
            encoder: _Encoder = _HouseEncoder(ChatTokenizer(folder))
            return cls(model, encoder, context=limit, batch_size=batch_size)
        where = device_of(device)
        model = load_causal(folder, precision=precision_of(precision="auto", device=where))
        model = model.to(where).eval()
        encoder = _ChatEncoder(ChatTemplate.load(folder))
        return cls(model, encoder, context=max_context(model.config), batch_size=batch_size)

    def score(self, pairs: Sequence[tuple[Context, str]]) -> list[tuple[float, bool]]:
        """Score continuations.

        Args:
            pairs: a text, or a conversation that is to be answered, and what follows it. What is
                too long loses its beginning.

        Returns:
            For each the log-likelihood (nats), and whether greedy decoding would say it; 0 and True
            for an empty continuation.
        """
        rows = [self._fit(*self._encoder.encode(*pair)) for pair in pairs]
        order = sorted(range(len(rows)), key=lambda n: -sum(map(len, rows[n])))
        found: dict[int, tuple[float, bool]] = {}
        for at in range(0, len(order), self._batch_size):
            chosen = order[at : at + self._batch_size]
            found.update(zip(chosen, self._batch([rows[n] for n in chosen]), strict=True))
        return [found[n] for n in range(len(rows))]

    def _fit(self, context_ids: list[int], continuation_ids: list[int]) -> _Pair:
        kept = continuation_ids[-(self._context - 1) :]
        room = self._context - len(kept)
        return _Pair(context_ids[-room:], kept)

    def _batch(self, rows: Sequence[_Pair]) -> list[tuple[float, bool]]:
        with extra("train"):
            import torch
        width = max(sum(map(len, row)) for row in rows)
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        seen = torch.zeros((len(rows), width), dtype=torch.long)
        for n, row in enumerate(rows):
            length = sum(map(len, row))
            # To the right: causal attention never looks there.
            ids[n, :length] = torch.tensor([*row.context_ids, *row.continuation_ids])
            seen[n, :length] = 1
        device = self._model.device
        with torch.inference_mode():
            logits = self._model(input_ids=ids.to(device), attention_mask=seen.to(device)).logits
        found = []
        for n, (before, after) in enumerate(rows):
            # The logits at a place foretell the token at the next one.
            own = logits[n, len(before) - 1 : len(before) - 1 + len(after)].float().cpu()
            wanted = torch.tensor(after, dtype=torch.long)
            each = torch.log_softmax(own, dim=-1).gather(1, wanted[:, None])[:, 0]
            is_greedy = bool((own.argmax(dim=-1) == wanted).all())
            found.append((float(each.double().sum()), is_greedy))
        return found
