"""Kept examples as the files that other trainers read, and those files read back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stillwatch.distill.asking.conversation import Conversation, UnfitError, conversation_of
from stillwatch.distill.filtering.export_shapes import SHAPES
from stillwatch.distill.items import Example
from stillwatch.errors import InvalidInputError, reject
from stillwatch.record.disk import replace_json

__all__ = ["SHAPE_NAMES", "Exported", "export", "read_back"]

SHAPE_NAMES = (*SHAPES, "parquet")
#: Rows of a Parquet file written at once.
_ROWS = 2048
_TURN = pa.struct([
    ("role", pa.string()),
    ("content", pa.string()),
    ("reasoning_content", pa.string()),
    # Arguments differ from tool to tool, so calls rest as JSON text.
    ("tool_calls", pa.string()),
    ("tool_call_id", pa.string()),
    ("name", pa.string()),
])
_SCHEMA = pa.schema([
    ("item_id", pa.string()),
    ("messages", pa.list_(_TURN)),
    ("tools", pa.string()),
    ("capability", pa.string()),
    ("cluster", pa.string()),
    ("sample", pa.int32()),
    ("truth", pa.string()),
    ("finish_reason", pa.string()),
    ("output_tokens", pa.int64()),
    ("exchange_id", pa.string()),
])
_AXOLOTL = """\
# How axolotl reads the file beside this one: only the teacher's answer is learnt.
datasets:
  - path: {file}
    ds_type: json
    type: chat_template
    field_messages: messages
    field_tools: tools
    message_property_mappings:
      role: role
      content: content
    roles_to_train: []
    message_field_training: train
    train_on_eos: turn
"""


class Exported(NamedTuple):
    """What was written.

    Attributes:
        n_examples: rows written (count).
        left_out: examples that the shape cannot say (count by reason).
        files: what was written, the data first.
    """

    n_examples: int
    left_out: dict[str, int]
    files: tuple[Path, ...]


def export(
    examples: Iterable[Example],
    shape: str,
    path: Path,
    *,
    name: str = "stillwatch",
    reasoning: bool = True,
) -> Exported:
    """Write examples as a data set for another trainer, one row in memory at a time.

    Args:
        examples: as `filters.read_examples` gives them.
        shape: one of `SHAPE_NAMES`.
        path: the file; JSON lines for all shapes but `parquet`.
        name: `llama-factory` only: what the data set is called in `dataset_info.json`.
        reasoning: keep the teacher's reasoning where it was told and the shape can say it.

    Returns:
        What was written, and how many examples the shape could not say, with the reasons.

    Raises:
        InvalidInputError: an unknown shape; a `dataset_info.json` beside it that is none.
    """
    if shape not in SHAPE_NAMES:
        reject("export", "shape", f"one of {', '.join(SHAPE_NAMES)}", got=shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    left_out: Counter[str] = Counter()
    laid_out = _laid_out(examples, left_out, reasoning=reasoning)
    if shape == "parquet":
        count = _write_parquet(laid_out, part)
    else:
        count = _write_lines(laid_out, shape, part, left_out=left_out)
    beside = _beside(shape, path, name=name)
    part.replace(path)
    return Exported(count, dict(left_out), (path, *beside))


def read_back(path: Path, shape: str) -> Iterator[Conversation]:
    """Read a data set that `export` wrote.

    Args:
        path: the file.
        shape: its shape.

    Yields:
        The conversations in order, calls with their arguments as JSON text.

    Raises:
        InvalidInputError: an unknown shape, or a line that is not of it; file and line are named.
    """
    if shape not in SHAPE_NAMES:
        reject("read_back", "shape", f"one of {', '.join(SHAPE_NAMES)}", got=shape)
    if shape == "parquet":
        yield from _read_parquet(path)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield SHAPES[shape].from_row(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                message = f"{path}:{number}: not a row of the shape {shape}: {type(error).__name__}"
                raise InvalidInputError(
                    message, hint="was it exported as another shape?"
                ) from error


_LaidOut = Iterator[tuple[Example, Conversation]]


def _laid_out(examples: Iterable[Example], left_out: Counter[str], *, reasoning: bool) -> _LaidOut:
    for example in examples:
        try:
            yield example, conversation_of(example, reasoning=reasoning)
        except UnfitError as reason:
            left_out[str(reason)] += 1


def _write_lines(laid_out: _LaidOut, shape: str, part: Path, *, left_out: Counter[str]) -> int:
    count = 0
    with part.open("wb") as file:
        for _, said in laid_out:
            try:
                row = SHAPES[shape].to_row(said)
            except UnfitError as reason:
                left_out[str(reason)] += 1
                continue
            file.write(msgspec.json.encode(row) + b"\n")
            count += 1
    return count


def _write_parquet(laid_out: _LaidOut, part: Path) -> int:
    count = 0
    with pq.ParquetWriter(part, _SCHEMA, compression="zstd") as writer:
        while rows := [_row(*one) for one in islice(laid_out, _ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
            count += len(rows)
    return count


def _row(example: Example, said: Conversation) -> dict[str, Any]:
    turns = [
        {**turn, "tool_calls": json.dumps(turn["tool_calls"]) if "tool_calls" in turn else None}
        for turn in said.turns
    ]
    item = example.item
    return {
        "item_id": item.item_id,
        "messages": turns,
        "tools": json.dumps(said.tools) if said.tools else None,
        "capability": item.capability,
        "cluster": item.cluster,
        "sample": item.sample,
        "truth": item.truth,
        "finish_reason": example.answer.finish_reason,
        "output_tokens": example.output_tokens,
        "exchange_id": example.exchange_id,
    }


def _read_parquet(path: Path) -> Iterator[Conversation]:
    try:
        batches = pq.ParquetFile(path).iter_batches(_ROWS, columns=["messages", "tools"])
        for batch in batches:
            for row in batch.to_pylist():
                turns = [
                    {k: v for k, v in turn.items() if v is not None} for turn in row["messages"]
                ]
                for turn in turns:
                    if "tool_calls" in turn:
                        turn["tool_calls"] = json.loads(turn["tool_calls"])
                yield Conversation(turns, json.loads(row["tools"]) if row["tools"] else [])
    except (pa.ArrowException, KeyError) as error:
        message = f"{path}: not a file of the shape parquet: {type(error).__name__}"
        raise InvalidInputError(message, hint="was it exported as another shape?") from error


def _beside(shape: str, path: Path, *, name: str) -> tuple[Path, ...]:
    if shape == "axolotl":
        settings = path.with_suffix(".yml")
        settings.write_text(_AXOLOTL.format(file=json.dumps(path.name)), encoding="utf-8")
        return (settings,)
    if shape == "llama-factory":
        return (_list_in_dataset_info(path, name),)
    return ()


def _list_in_dataset_info(path: Path, name: str) -> Path:
    """Add the data set to the list that LLaMA-Factory looks names up in; others stay in it."""
    listing = path.with_name("dataset_info.json")
    known: dict[str, Any] = {}
    if listing.exists():
        try:
            known = msgspec.json.decode(listing.read_bytes(), type=dict[str, Any])
        except msgspec.MsgspecError as error:
            message = f"{listing}: not a list of data sets: {error}"
            raise InvalidInputError(message, hint="move it away, or repair it") from error
    known[name] = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            "user_tag": "human",
            "assistant_tag": "gpt",
            "observation_tag": "observation",
            "function_tag": "function_call",
        },
    }
    replace_json(listing, known)
    return listing
