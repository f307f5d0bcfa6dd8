"""The `[questions]` table of a run: where questions come from, and in what order they are asked."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from stillwatch.errors import reject

Formats = Literal["auto", "jsonl", "json", "csv", "parquet", "arrow", "text", "whole"]
#: Which turns of a conversation are asked; see `docs/questions.md`.
Turns = Literal["last", "end", "every"]
Orders = Literal["stratified", "random", "given", "difficulty", "disagreement"]


def _at_least_one(where: str, name: str, value: int | None) -> None:
    if value is not None and value < 1:
        reject(where, name, "at least 1", got=value)


def _share(where: str, name: str, value: float) -> None:
    if not (math.isfinite(value) and 0.3 <= value <= 1):
        reject(where, name, "from 0.3 to 1", got=value)


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables have in common: immutable, and no key that nobody reads."""


class Columns(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which column of a row holds what; "" looks for the usual names.

    A name may be dotted (`prompt.text`), with numbers for places in a list (`turns.0`).

    Attributes:
        question: the text asked; of several columns the filled ones are joined by an empty line.
        messages: a conversation, in any of the shapes that chat data have.
        system: the system turn.
        tools: tool definitions.
        truth: the right answer; never guessed.
        capability: the skill asked for; never guessed.
        cluster: what rows of one origin share.
        check: how an answer is compared with the truth.
        score: difficulty or disagreement, higher first, for the orders of these names.
    """

    question: str | tuple[str, ...] = ""
    messages: str = ""
    system: str = ""
    tools: str = ""
    truth: str = ""
    capability: str = ""
    cluster: str = ""
    check: str = ""
    score: str = ""


class FileTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""Rows of files.

    Attributes:
        path: a file, a folder, or a glob pattern; relative to the run file.
        format: how it is read; auto goes by the name's ending; text has a row a line, whole one
            row a file.
        split: of a saved data set with several: which; of a hub folder: which files.
        at: where in a JSON document the list of rows stands, dotted.
        header: whether a table begins with its columns' names; else they are "0", "1", ...
        columns: which column holds what.
        text: a pattern over the row's columns (`{instruction}\n{input}`) that makes the question.
        pattern: for lines of text: an expression whose named groups are columns.
        beside: column name -> a file whose line of the same number is that column.
        where: column -> the value that a row must have to be asked.
        truth_pattern: an expression whose first group, where it matches the truth, is the truth.
        turns: last asks a conversation's last user turn; end asks what stands before the last
            assistant turn (a tool's result, too); every makes an item of each.
        capability: of all rows, where no column tells; `{stem}` is the file's name without ending.
        check: likewise.
        system: a system turn for rows that have none.
        skip: rows left out at the beginning of each file (count).
        limit: rows read of each file at most (count).
    """

    path: str
    format: Formats = "auto"
    split: str = ""
    at: str = ""
    header: bool = True
    columns: Columns = Columns()
    text: str = ""
    pattern: str = ""
    beside: dict[str, str] = {}
    where: dict[str, Any] = {}
    truth_pattern: str = ""
    turns: Turns = "last"
    capability: str = ""
    check: str = ""
    system: str = ""
    skip: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.path:
            reject("[questions.files]", "path", "a file, a folder or a pattern", got=self.path)
        if self.skip < 0:
            reject("[questions.files]", "skip", "at least 0", got=self.skip)
        _at_least_one("[questions.files]", "limit", self.limit)
        if self.pattern and self.format not in {"auto", "text"}:
            reject("[questions.files]", "pattern", "used with format = text", got=self.format)


class LogTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The questions of a log, of our store or of a journal.

    Attributes:
        path: a file, a folder, a store, a journal or a pattern; relative to the run file.
        format: a log format's name, or auto.
        turns: as for files.
        capability: of all its questions; "" takes the model's name out of it and says "all".
        limit: exchanges read at most (count).
    """

    path: str
    format: str = "auto"
    turns: Turns = "last"
    capability: str = ""
    limit: int | None = None

    def __post_init__(self) -> None:
        if not self.path:
            reject("[questions.logs]", "path", "a log, a store or a journal", got=self.path)
        _at_least_one("[questions.logs]", "limit", self.limit)


class TemplateTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Questions made by filling slots.

    Attributes:
        text: the question with `{slot}`, `{slot.field}`, `{slot:format}`; several are alternatives.
        slots: name -> a list of values; `{range = [first, last]}` or `[first, last, step]`, both
            ends included; `{file = "words.txt"}`; or a list of tables, whose fields go together.
        truth: the right answer, likewise; "" for none.
        system: a system turn, likewise.
        count: questions drawn from the product of texts and slots; None takes the whole product.
        capability: of all its questions.
        cluster: what clusters them, likewise a pattern; "" takes the text's number.
        check: how an answer is compared with the truth.
        name: as origins name it; "" takes its number.
    """

    text: str | tuple[str, ...]
    slots: dict[str, Any] = {}
    truth: str = ""
    system: str = ""
    count: int | None = None
    capability: str = "all"
    cluster: str = ""
    check: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.texts or not all(self.texts):
            reject("[questions.templates]", "text", "one text or more", got=self.text)
        _at_least_one("[questions.templates]", "count", self.count)

    @property
    def texts(self) -> tuple[str, ...]:
        """The alternatives."""
        return (self.text,) if isinstance(self.text, str) else self.text


class GenerateTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Questions that a model writes after seeds.

    Attributes:
        count: questions wanted (count).
        seeds: files of seed questions, as under `files`; none takes the run's other questions.
        topics: what to write about, in equal shares; none takes the seeds' capabilities.
        topic_words: topic -> how it is described to the model.
        path: where what was written rests, so that nothing is asked twice; relative to the run
            file.
        instructions: replaces the house's request; `{topic}`, `{count}` and `{examples}` are
            filled in.
        shots: seeds shown with a request (count).
        own_shots: generated questions shown besides (count).
        each: questions asked for with one request (count).
        at_once: requests of one round (count).
        parameters: sampling parameters by the wire's names.
        near_duplicates: a question at least so alike to a seed or an earlier one is left out.
        least_words: shorter ones are left out (count).
        most_words: longer ones are left out (count).
        avoid: questions with one of these words are left out.
        patience: rounds in a row without anything new after which it stops short (count).
    """

    count: int
    seeds: tuple[str | FileTable, ...] = ()
    topics: tuple[str, ...] = ()
    topic_words: dict[str, str] = {}
    path: str = "generated.jsonl"
    instructions: str = ""
    shots: int = 6
    own_shots: int = 2
    each: int = 8
    at_once: int = 16
    parameters: dict[str, Any] = msgspec.field(
        default_factory=lambda: {"temperature": 1.0, "max_tokens": 2048}
    )
    near_duplicates: float = 0.7
    least_words: int = 3
    most_words: int = 400
    avoid: tuple[str, ...] = ()
    patience: int = 5

    def __post_init__(self) -> None:
        where = "[questions.generate]"
        for name in ("count", "each", "at_once", "patience", "least_words"):
            _at_least_one(where, name, getattr(self, name))
        for name in ("shots", "own_shots"):
            if getattr(self, name) < 0:
                reject(where, name, "at least 0", got=getattr(self, name))
        if self.most_words < self.least_words:
            reject(where, "most_words", "at least least_words", got=self.most_words)
        _share(where, "near_duplicates", self.near_duplicates)
        unknown = sorted(set(self.topic_words) - set(self.topics))
        if unknown:
            reject(where, "topic_words", "about the topics listed", got=unknown)


class ContaminationTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What counts as seen by the score set.

    Attributes:
        enabled: False asks questions of the score set, too; the counts say so.
        ngram: words in a row whose sharing gives a question away; 0 looks at whole texts only.
        coverage: share of a score question's telling runs that a question must hold to be left out,
            0..1; 0 for any one, as is usual. Where all questions come from few templates, 0.5 keeps
            those that share no more than the template.
        least: score questions from this many words up to `ngram` are looked for inside others.
        boilerplate: a run of words in more score questions than this, or in more than one in 20
            and in two, is no evidence (count).
        clusters: leave out questions of a cluster that the score set holds.
    """

    enabled: bool = True
    ngram: int = 13
    coverage: float = 0.0
    least: int = 8
    boilerplate: int = 10
    clusters: bool = False

    def __post_init__(self) -> None:
        where = "[questions.contamination]"
        if self.ngram < 0 or 0 < self.ngram < 3:
            reject(where, "ngram", "0 or at least 3", got=self.ngram)
        if not 0 <= self.coverage <= 1:
            reject(where, "coverage", "from 0 to 1", got=self.coverage)
        _at_least_one(where, "least", self.least)
        _at_least_one(where, "boilerplate", self.boilerplate)


class RankingTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the order by difficulty or disagreement takes its scores from.

    Attributes:
        by: column (of files that map `score`); file; length (words); rarity (how rare its words
            are in the pool, bits a word); model (how much a model's answers differ). Auto takes
            the column where one is mapped, the file where one is named, else rarity for difficulty
            and model for disagreement.
        path: for file: JSON lines of item_id and score; for model: where the answers' scores rest.
        samples: answers of the model to each question (count).
        parameters: sampling parameters of the model.
        at_once: questions put to the model together (count).
    """

    by: Literal["auto", "column", "file", "length", "rarity", "model"] = "auto"
    path: str = ""
    samples: int = 4
    parameters: dict[str, Any] = msgspec.field(
        default_factory=lambda: {"temperature": 1.0, "max_tokens": 256}
    )
    at_once: int = 64

    def __post_init__(self) -> None:
        if self.samples < 2:
            reject("[questions.ranking]", "samples", "at least 2", got=self.samples)
        _at_least_one("[questions.ranking]", "at_once", self.at_once)
        if self.by == "file" and not self.path:
            reject("[questions.ranking]", "path", "the file of scores", got=self.path)


class QuestionsTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where questions come from, what is left out, and in what order they are asked.

    Attributes:
        files: files of rows; a bare text is the path of one.
        logs: logs whose questions are asked again.
        templates: questions made by filling slots.
        generate: questions written by a model.
        samples: answers asked to each question (count).
        sampling: together asks all answers to a question before the next; apart asks every
            question once before any is asked twice.
        order: of asking; the first n are the budget n.
        strata: what `stratified`, `difficulty` and `disagreement` keep in proportion.
        balance: proportional keeps the pool's shares; equal gives every stratum the same until it
            is used up.
        ranking: scores for the orders by difficulty and disagreement.
        limit: items at most (count).
        near_duplicates: questions at least so alike to an earlier one, after an equal conversation
            and with equal tools, are left out (Jaccard likeness of their word runs, 0..1); 0 leaves
            out equal ones only.
        contamination: what counts as seen by the score set.
        bad_rows: stop at the first row that is no question, or skip and count them.
    """

    files: tuple[str | FileTable, ...] = ()
    logs: tuple[str | LogTable, ...] = ()
    templates: tuple[TemplateTable, ...] = ()
    generate: GenerateTable | None = None
    samples: int = 1
    sampling: Literal["together", "apart"] = "together"
    order: Orders = "stratified"
    strata: Literal["capability", "source"] = "capability"
    balance: Literal["proportional", "equal"] = "proportional"
    ranking: RankingTable = RankingTable()
    limit: int | None = None
    near_duplicates: float = 0.0
    contamination: ContaminationTable = ContaminationTable()
    bad_rows: Literal["stop", "skip"] = "stop"

    def __post_init__(self) -> None:
        where = "[questions]"
        if not (self.files or self.logs or self.templates or self.generate):
            reject(where, "sources", "files, logs, templates or generate", got=None)
        _at_least_one(where, "samples", self.samples)
        _at_least_one(where, "limit", self.limit)
        if self.near_duplicates:
            _share(where, "near_duplicates", self.near_duplicates)


def file_table(source: str | FileTable) -> FileTable:
    """Read a bare path as a table.

    Args:
        source: a path or a table.

    Returns:
        The table.
    """
    return FileTable(path=source) if isinstance(source, str) else source
