"""A suspect's outputs as files: one question and answer a line."""

from __future__ import annotations

from pathlib import Path

import msgspec

from stillwatch.errors import InvalidInputError
from stillwatch.model.folder import ChatTokenizer
from stillwatch.trace.watermark import TokenSequence


class SuspectOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an outputs file.

    Attributes:
        answer: what the suspect said.
        question: what it was asked; its words are not held against the suspect.
    """

    answer: str
    question: str = ""


def read_outputs(path: Path) -> list[SuspectOutput]:
    """Read a suspect's outputs.

    Args:
        path: JSON lines, each with `answer` and, where known, `question`.

    Returns:
        One entry a line.

    Raises:
        InvalidInputError: the file holds none, or a line is not such an object.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(msgspec.json.decode(line, type=SuspectOutput))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            message = f"{path}:{number}: the line must be a JSON object with `answer`: {error}"
            raise InvalidInputError(message) from error
    if not found:
        message = f"{path}: holds no outputs"
        raise InvalidInputError(message, hint='one {"question": ..., "answer": ...} a line')
    return found


def encode_outputs(outputs: list[SuspectOutput], tokenizer: Path) -> list[TokenSequence]:
    """Encode outputs with the marking model's tokenizer.

    Args:
        outputs: as `read_outputs` gives them.
        tokenizer: the marking model's folder, or its `tokenizer.json`.

    Returns:
        One sequence an output; the question in front is not scored.
    """
    chat = ChatTokenizer(tokenizer)
    return [TokenSequence(*chat.encode_pair(one.question, one.answer)) for one in outputs]
