"""A suspect's outputs: from a file of answers, from any log, from our journal or store.

Whatever a suspect is, a file, an endpoint or a model folder, the tests see it as a list of
`SuspectOutput`: what it was asked and what it said. Tokens come in only with the marking model's
tokenizer, because a mark lives in that model's tokens, whoever repeats its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from stillwatch.errors import InvalidInputError
from stillwatch.logs.read import decode_line
from stillwatch.logs.reader import Origin, ReadOptions
from stillwatch.logs.reading import Reading, ReadRequest
from stillwatch.logs.source import Source, blocks, find_sources, records_of
from stillwatch.logs.unit import Block, Fault
from stillwatch.model.chat_template import ChatTemplate
from stillwatch.model.folder import ChatTokenizer
from stillwatch.model.huggingface import is_house_folder
from stillwatch.record.disk import replace_lines
from stillwatch.record.exchange import Exchange, Message, from_batch
from stillwatch.record.privacy import KeyedHash
from stillwatch.trace.radioactivity.windows import TokenSequence

#: The file that `stillwatch trace ask` leaves in its folder.
OUTPUTS = "outputs.jsonl"
_HINT = 'one {"question": ..., "answer": ...} a line'


class SuspectOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of an outputs file.

    Attributes:
        answer: what the suspect said.
        question: what it was asked; its words are not held against the suspect.
        question_id: names the question in the plan, "" where it has no name.
        sample: which of several answers to the question this is, from 0.
    """

    answer: str
    question: str = ""
    question_id: str = ""
    sample: int = 0


def read_outputs(path: Path) -> list[SuspectOutput]:
    """Read a suspect's outputs.

    Args:
        path: rows with `answer` and, where known, `question`, `question_id` and `sample` (JSON
            lines, CSV or Parquet, plain or packed); the folder of `stillwatch trace ask`; or any
            log that `stillwatch logs` reads, journals and stores included.

    Returns:
        One entry an answer, in the order of the file.

    Raises:
        InvalidInputError: there are none, or one cannot be read: nothing is left out in silence.
    """
    if (path / OUTPUTS).is_file():
        path = path / OUTPUTS
    found: list[SuspectOutput] = []
    for source in find_sources([str(path)]):
        rows = _rows(source) if source.kind == "file" else None
        found += _converted(rows) if rows is not None else _logged(source)
    if not found:
        message = f"{path}: holds no outputs"
        raise InvalidInputError(message, hint=_HINT)
    return found


def write_outputs(path: Path, outputs: Iterable[SuspectOutput]) -> int:
    """Write outputs as JSON lines, atomically.

    Args:
        path: the file.
        outputs: any number.

    Returns:
        How many were written (count).
    """
    return replace_lines(path, outputs)


def outputs_of(exchange: Exchange) -> list[SuspectOutput]:
    """Take the answers out of an exchange.

    Args:
        exchange: any; one without an answer gives none.

    Returns:
        One output an answer.
    """
    first = exchange.tags.get("sample", "0")
    start = int(first) if first.isdecimal() else 0
    name = exchange.tags.get("question_id") or exchange.tags.get("item_id", "")
    return [
        SuspectOutput(answer.text, exchange.question, name, start + n)
        for n, answer in enumerate(exchange.answers)
        if answer.text
    ]


class MarkedTokens(Protocol):
    """A marking model's tokenizer, as far as the tests need it."""

    @property
    def vocab_size(self) -> int:
        """Tokens that the model chooses among (count)."""
        ...

    def encode(self, outputs: Sequence[SuspectOutput]) -> list[TokenSequence]:
        """Encode outputs; the questions stand in front and are not scored."""
        ...


def open_tokens(tokenizer: Path) -> MarkedTokens:
    """Open the tokenizer of the model that was marked.

    Args:
        tokenizer: its folder, of any causal language model, or a house `tokenizer.json`.

    Returns:
        What encodes outputs as that model saw them.

    Raises:
        RecordError: there is no tokenizer.
    """
    if tokenizer.is_dir() and not is_house_folder(tokenizer):
        return _TemplateTokens(tokenizer)
    return _HouseTokens(tokenizer)


def encode_outputs(outputs: list[SuspectOutput], tokenizer: Path) -> list[TokenSequence]:
    """Encode outputs with the marking model's tokenizer.

    Args:
        outputs: as `read_outputs` gives them.
        tokenizer: the marking model's folder, or a house `tokenizer.json`.

    Returns:
        One sequence an output; the question in front is not scored.
    """
    return open_tokens(tokenizer).encode(outputs)


class _HouseTokens:
    """The chat format of the house models."""

    def __init__(self, path: Path) -> None:
        self._chat = ChatTokenizer(path)

    @property
    def vocab_size(self) -> int:
        return self._chat.vocab_size

    def encode(self, outputs: Sequence[SuspectOutput]) -> list[TokenSequence]:
        return [TokenSequence(*self._chat.encode_pair(o.question, o.answer)) for o in outputs]


class _TemplateTokens:
    """A model's own chat template; its vocabulary is the configuration's, padding included."""

    def __init__(self, folder: Path) -> None:
        self._template = ChatTemplate.load(folder)
        self._folder = folder

    @property
    def vocab_size(self) -> int:
        try:
            config = msgspec.json.decode((self._folder / "config.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            return len(self._template.tokenizer)
        inner = config.get("text_config") or {}
        size = config.get("vocab_size") or inner.get("vocab_size")
        return int(size) if size else len(self._template.tokenizer)

    def encode(self, outputs: Sequence[SuspectOutput]) -> list[TokenSequence]:
        found = []
        for one in outputs:
            # Prompt and answer are cut apart, as they were when the answer was generated.
            prompt = self._template.prompt([Message("user", one.question)]) if one.question else ""
            before = self._template.token_ids(prompt)
            found.append(
                TokenSequence([*before, *self._template.token_ids(one.answer)], len(before))
            )
        return found


def _rows(source: Source) -> Iterator[tuple[Origin, Mapping[str, Any]]] | None:
    """Give a file's rows when they are outputs, None when it is something else, such as a log."""
    for _, record in _records(source):
        if not isinstance(record, Mapping) or "answer" not in record:
            return None
        break
    return _mappings(source)


def _mappings(source: Source) -> Iterator[tuple[Origin, Mapping[str, Any]]]:
    for origin, record in _records(source):
        if not isinstance(record, Mapping):
            message = f"{origin.file}:{origin.line}: the line must be a JSON object with `answer`"
            raise InvalidInputError(message, hint=_HINT)
        yield origin, record


def _records(source: Source) -> Iterator[tuple[Origin, Any]]:
    for block in blocks(source):
        if isinstance(block, Fault):
            message = f"{block.file}:{block.line}: {block.reason}"
            raise InvalidInputError(message, hint=_HINT)
        yield from _decoded(block)


def _decoded(block: Block) -> Iterator[tuple[Origin, Any]]:
    records = records_of(block.records) if block.kind == "batch" else block.records
    for line, record in enumerate(records, start=block.first):
        origin = Origin(block.file, line)
        if block.kind != "lines":
            yield origin, record
        elif record.strip():
            yield origin, decode_line(record, origin)


def _converted(rows: Iterable[tuple[Origin, Mapping[str, Any]]]) -> Iterator[SuspectOutput]:
    for origin, row in rows:
        told = {name: value for name, value in row.items() if value is not None}
        try:
            yield msgspec.convert(told, SuspectOutput, strict=False)
        except msgspec.ValidationError as error:
            where = f"{origin.file}:{origin.line}"
            message = f"{where}: the line must be an object with `answer`: {error}"
            raise InvalidInputError(message, hint=_HINT) from error


def _logged(source: Source) -> Iterator[SuspectOutput]:
    options = ReadOptions(keyed_hash=KeyedHash.generate())
    request = ReadRequest((source.name,), options, strict=True, processes=1)
    try:
        for batch in Reading(request).batches():
            for exchange in from_batch(batch):
                yield from outputs_of(exchange)
    except InvalidInputError as error:
        hint = f"{_HINT}; `stillwatch logs describe` says what a log holds"
        raise InvalidInputError(str(error), hint=hint) from error
