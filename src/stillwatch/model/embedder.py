"""A sentence embedder in this process, from a local folder: never from a hub.

`detect` needs none: hashed features are its default. Whoever has a folder as sentence-transformers
writes it (BERT-like weights, `tokenizer.json`, mean or first-token pooling) may have questions
compared by it instead (`stillwatch.text.features.Embedder`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stillwatch.errors import extra, reject

#: Tokens read of a text: beyond the first hundred the mean of a question hardly moves.
_MAX_TOKENS = 128
_BATCH = 64


class SentenceEmbedder:
    """Texts to vectors of length one. Use `load`.

    Args:
        model: an encoder that returns `last_hidden_state`, in evaluation mode.
        tokenizer: its tokenizer, truncating.
        first_token: whether the first token's state stands for the text, or the mean of all.
    """

    def __init__(self, model: Any, tokenizer: Any, *, first_token: bool) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._first_token = first_token

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load an embedder folder.

        Args:
            folder: `config.json`, `model.safetensors`, `tokenizer.json`, and `1_Pooling/` if any.

        Returns:
            The embedder.

        Raises:
            InvalidInputError: a file is missing.
        """
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                reject(
                    "embedder", "folder", f"a sentence-transformers folder with {name}",
                    got=folder.name, hint="give the folder itself; nothing is downloaded",
                )  # fmt: skip
        with extra("train"):
            from tokenizers import Tokenizer
            from transformers import AutoModel
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(_MAX_TOKENS)
        tokenizer.enable_padding()
        model = AutoModel.from_pretrained(folder, local_files_only=True)
        model.eval()
        return cls(model, tokenizer, first_token=_pools_first_token(folder))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, the longest together so that little is padding.

        Args:
            texts: any number.

        Returns:
            Unit vectors, shape (len(texts), width).
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        width = int(self._model.config.hidden_size)
        vectors = np.zeros((len(texts), width), dtype=np.float32)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            vectors[rows] = self._embed([texts[i] for i in rows])
        return vectors

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        with extra("train"):
            import torch
        encoded = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([row.ids for row in encoded])
        mask = torch.tensor([row.attention_mask for row in encoded])
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
            if self._first_token:
                pooled = states[:, 0]
            else:
                weight = mask[:, :, None].to(states.dtype)
                pooled = (states * weight).sum(1) / weight.sum(1).clamp(min=1)
            unit = torch.nn.functional.normalize(pooled, dim=1)
        return np.asarray(unit.numpy(), dtype=np.float32)


def _pools_first_token(folder: Path) -> bool:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return False
    return bool(json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_cls_token", False))
