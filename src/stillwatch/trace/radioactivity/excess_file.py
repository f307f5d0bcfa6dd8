"""An excess in a file: what the weighted tests need of a model, without the model.

For each window of a suspect's text: how often it was written (or the suspect's own chance of it),
and how often the unmarked model would have written it. Nothing of it depends on a key, so whoever
holds the file and the mark computes the same p-value, with no weights of anybody's model; and
whoever holds the model too can make the file again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from stillwatch.errors import InvalidInputError, reject
from stillwatch.record.disk import replace_json
from stillwatch.trace.radioactivity.weights import Excess

_Id = Annotated[int, msgspec.Meta(ge=0)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: str
    vocab_size: Annotated[int, msgspec.Meta(ge=1)]
    context_width: Annotated[int, msgspec.Meta(ge=1)]
    contexts: list[list[_Id]]
    tokens: list[_Id]
    observed: list[float]
    expected: list[float]


_KIND = "stillwatch excess 1"


def write_excess(path: Path, excess: Excess, *, vocab_size: int) -> None:
    """Write an excess; every number is read back as it was.

    Args:
        path: the file, replaced as a whole.
        excess: what the suspect did beyond what was to be expected.
        vocab_size: size of the marking model's vocabulary (count).

    Raises:
        EnvironmentUnfitError: the file cannot be written.
    """
    replace_json(
        path,
        {
            "kind": _KIND,
            "vocab_size": vocab_size,
            "context_width": int(excess.context_ids.shape[1]),
            "contexts": excess.context_ids.tolist(),
            "tokens": excess.token_ids.tolist(),
            "observed": excess.observed.tolist(),
            "expected": excess.expected.tolist(),
        },
    )


def read_excess_file(path: Path) -> tuple[Excess, int]:
    """Read what `write_excess` wrote.

    Args:
        path: the file.

    Returns:
        The excess, and the size of the vocabulary (count).

    Raises:
        InvalidInputError: not such a file, or its columns do not fit together.
    """
    try:
        held = msgspec.json.decode(path.read_bytes(), type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        message = f"{path.name}: not a file of an excess: {error}"
        raise InvalidInputError(message) from error
    n, width = len(held.tokens), held.context_width
    lengths = {len(held.contexts), len(held.observed), len(held.expected)}
    if held.kind != _KIND or lengths != {n} or {len(c) for c in held.contexts} - {width}:
        reject(path.name, "columns", f"of one length, contexts of {width}", got=sorted(lengths))
    contexts = np.array(held.contexts, dtype=np.int64).reshape(n, width)
    tokens = np.array(held.tokens, dtype=np.int64)
    if n and max(int(contexts.max()), int(tokens.max())) >= held.vocab_size:
        reject(path.name, "tokens", f"below the vocabulary's {held.vocab_size}", got="one beyond")
    observed, expected = np.array(held.observed), np.array(held.expected)
    if not np.isfinite(observed).all() or not np.isfinite(expected).all():
        reject(path.name, "observed, expected", "finite", got="a number that is not")
    return Excess(contexts, tokens, observed, expected), held.vocab_size
