"""Training value: what a question asks for that is worth more to a student than to a person.

A flag says that a question has a form which published campaigns asked for over and over (reasoning
written out, answers graded by a rubric, many variants of one task, output in a fixed shape). One
flagged question means nothing: people ask for steps and for JSON all day. Flags describe a
campaign that other evidence found, and estimate what its exchanges were for.

Phrases are matched as runs of words, case folded, numbers alike, English only; a copier who
paraphrases goes unflagged.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stillwatch.text.ragged import Hashes, Offsets
from stillwatch.text.tokens import tokenize

#: Phrases; a flag is raised by one of its phrases, or by all words of a `+` combination.
_PHRASES: dict[str, str] = {
    "step_by_step": (
        "step by step | think through | one step at a time | work through | walk me through "
        "| walk through | show your work | show all steps | show each step | break down each step "
        "| chain of thought | reason carefully | think carefully"
    ),
    "reasoning_written_out": (
        "your reasoning | full reasoning | complete reasoning | detailed reasoning "
        "| reasoning process | thought process | your thinking | internal monologue | scratchpad "
        "| explain your reasoning | before answering | before you answer | before giving the final "
        "| reasoning trace | reasoning behind"
    ),
    "verbatim_reasoning": (
        "verbatim + reasoning | verbatim + thoughts | word for word + reasoning "
        "| do not summarize + reasoning | do not summarise + reasoning | do not omit + reasoning "
        "| entire chain of thought | raw chain of thought | hidden reasoning "
        "| imagine and articulate"
    ),
    "rubric": (
        "rubric | grading criteria | scoring criteria | evaluation criteria | grade the following "
        "| score the following | grade this | on a scale of 7 | on a scale from 7 "
        "| scale of 7 to 7 | as a grader | as a reward model | assign a score | give a score "
        "| rate the following | rate each"
    ),
    "pairwise_judge": (
        "response a + response b | answer a + answer b | assistant a + assistant b "
        "| which response is better | which answer is better | chosen + rejected | impartial judge "
        "| preferred response"
    ),
    "critique_and_revise": (
        "critique + revise | critique the following | find the flaws | critique and improve "
        "| self critique | identify errors + correct "
        "| review your answer | verify your answer | double check your answer"
    ),
    "json_only": (
        "only json | json only | only valid json | valid json only | json object only "
        "| only a json | respond in json | answer in json | reply in json | output json "
        "| return json | return a json | output a json | in json format | as json | as a json "
        "| json schema"
    ),
    "code_only": (
        "code only | only code | only the code | no explanation | no explanations "
        "| without explanation | without any explanation | do not explain | nothing but code "
        "| only output code | just the code"
    ),
    "answer_only": (
        "only the answer | answer only | just the answer | only the final answer "
        "| final answer only | nothing else | no other text | single word | one word answer "
        "| only with the letter"
    ),
    "answer_marked": (
        "boxed | final answer in | final answer as | final answer inside | between tags "
        "| answer tags | wrap your answer | put your answer "
        "| put the final answer | enclosed in | ends with the line"
    ),
    "many_variants": (
        "variations of | variants of | different versions | diverse examples | diverse set "
        "| generate 7 | write 7 different | give 7 different | create 7 | produce 7 different "
        "| come up with 7 | rephrase | paraphrase | synthetic data | training examples "
        "| training data | fine tuning"
    ),
    "task_generation": (
        "create a new task | new instruction | new instructions | come up with a task "
        "| instruction following | instruction and input | rewrite the given prompt "
        "| more complex version | harder version | increase the difficulty | similar problem "
        "| similar question | task instances"
    ),
    "expert_persona": (
        "you are an expert | you are a expert | act as | you are a world class "
        "| you are a senior | you are an experienced | you are a helpful assistant "
        "| you are a professional"
    ),
    "tool_traces": (
        "available tools | available functions | following tools | following functions "
        "| function call | function calls | tool call | tool calls | call the function | api call "
        "| next action | thought + action + observation"
    ),
    "agent_coding": (
        "failing test | failing tests | unit tests | pull request | repository + issue | git diff "
        "| unified diff | patch + repository | bug report | root cause | write a patch "
        "| implement the function | complete the function | function signature"
    ),
    "model_identity": (
        "system prompt | your instructions | what model are you | which model are you "
        "| your training data | who trained you | knowledge cutoff"
    ),
    "safe_alternative": ("politically sensitive | censorship | sensitive topics | avoid sensitive"),
    "confidence_wanted": (
        "your confidence | confidence score | confidence level | how confident "
        "| probability that your answer | logprobs"
    ),
    "translate_pairs": (
        "translate the following | translate each | translation of each | into english "
        "| parallel corpus | bilingual"
    ),
    "exam_form": (
        "multiple choice | choose the correct | which of the following | options are "
        "| answer choices | select the best answer | select the correct | true or false"
    ),
}
#: Names of the flags, in the order of the bits and of `Totals.flags`.
FLAGS: tuple[str, ...] = tuple(_PHRASES)
_SLOTS = 4096


#: The bits of one word of the search: flags below, parts of `+` combinations above.
_FIRST_PART = 32


class _Tables(NamedTuple):
    slot_first: NDArray[np.int64]
    phrase_words: Hashes
    phrase_starts: NDArray[np.int64]
    phrase_bit: NDArray[np.int64]
    next_phrase: NDArray[np.int64]


class _Combination(NamedTuple):
    flag: int
    parts: int


def question_flags(words: Hashes, word_starts: Offsets) -> NDArray[np.uint32]:
    """Find the flags of questions.

    Args:
        words: masked word hashes in order of appearance, as `tokens.tokenize` gives them.
        word_starts: question `i` has `words[word_starts[i]:word_starts[i + 1]]`, shape (n + 1,).

    Returns:
        Shape (n,); bit `j` is set when the question shows `FLAGS[j]`.
    """
    from stillwatch.text.feature_kernels import find_phrases

    tables, combinations = _tables()
    found = np.zeros(len(word_starts) - 1, dtype=np.uint64)
    if len(found):
        find_phrases(words, word_starts, *tables, found)
    flags = found.astype(np.uint32)
    for combination in combinations:
        parts = np.uint64(combination.parts)
        flags |= ((found & parts) == parts).astype(np.uint32) << np.uint32(combination.flag)
    return flags


def add_flags(flags: NDArray[np.uint32], account: Offsets, out: NDArray[np.int32]) -> None:
    """Count flags in the sums of their accounts, in place.

    Args:
        flags: as `question_flags` gives them, shape (n,).
        account: the row of `out` that each belongs to, shape (n,).
        out: counts, shape (n_accounts, len(FLAGS)).
    """
    from stillwatch.text.feature_kernels import add_bits

    add_bits(flags, account, out)


def names_of(flags: int) -> tuple[str, ...]:
    """Spell the flags of one question.

    Args:
        flags: one value of `question_flags`.

    Returns:
        Names, in the order of `FLAGS`.
    """
    return tuple(name for bit, name in enumerate(FLAGS) if flags >> bit & 1)


@cache
def _tables() -> tuple[_Tables, tuple[_Combination, ...]]:
    phrases: dict[str, int] = {}
    combinations = []
    n_parts, alone = 0, list[tuple[str, int]]()
    for flag, text in enumerate(_PHRASES.values()):
        for choice in text.split("|"):
            words = [part.strip() for part in choice.split("+")]
            if len(words) == 1:
                alone.append((words[0], flag))
                continue
            mask = 0
            for part in words:
                if part not in phrases:
                    phrases[part] = _FIRST_PART + n_parts
                    n_parts += 1
                mask |= 1 << phrases[part]
            combinations.append(_Combination(flag, mask))
    listed = alone + list(phrases.items())
    hashes = tokenize(pa.array([text for text, _ in listed]), max_bytes=256).masked
    slots = hashes.values[hashes.offsets[:-1]] >> np.uint64(52)
    slot_first = np.full(_SLOTS, -1, dtype=np.int64)
    following = np.full(len(listed), -1, dtype=np.int64)
    for phrase, slot in enumerate(slots.astype(np.int64)):
        following[phrase], slot_first[slot] = slot_first[slot], phrase
    bits = np.array([bit for _, bit in listed], dtype=np.int64)
    tables = _Tables(slot_first, hashes.values, hashes.offsets, bits, following)
    return tables, tuple(combinations)
