"""Ordinary prose for the contest: text that any Python installation carries, and its models.

The package ships no text. `passages` reads the English sentences in the docstrings and comments of
the standard library, the language reference behind `help()` and the licence, and files them under
everyday subjects. The house prose teacher is trained on them; honest users and the campaign take
their prose questions from them. The text differs a little between Python versions: a run repeats
exactly on the same Python.
"""

from __future__ import annotations

import functools
import re
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash

from stillwatch.distill.training.train import (
    Pair,
    Recipe,
    StudentShape,
    TrainingResult,
    train_student,
)
from stillwatch.errors import EnvironmentUnfitError, extra, reject
from stillwatch.model.folder import (
    SPECIAL_TOKENS,
    TOKENIZER,
    UNKNOWN,
    GenerationDefaults,
)
from stillwatch.model.local import GenerationRow, LocalModel
from stillwatch.trace.outputs import SuspectOutput, encode_outputs
from stillwatch.trace.watermark import TokenSequence


class Passage(NamedTuple):
    """One sentence of ordinary English.

    Attributes:
        topic: the subject that its source belongs to, one of `topics()`.
        text: one sentence of 6 to 40 words on one line, begun by a capital and closed by a stop.
    """

    topic: str
    text: str


_SAMPLED = GenerationDefaults(temperature=1.0, max_new_tokens=48)
#: The house prose teacher as it is shipped.
PROSE_TEACHER: tuple[StudentShape, Recipe] = (
    StudentShape(width=128, layers=3),
    Recipe(steps=1200, seed=0, defaults=_SAMPLED),
)
#: What a copier, or an innocent, trains on about 2,000 prose answers: 16-22 CPU-s. 200 steps take
#: 10 and still prove (docs/radioactivity.md).
PROSE_STUDENT: tuple[StudentShape, Recipe] = (
    StudentShape(width=96, layers=2),
    Recipe(steps=350, prompt_loss=0.0, defaults=_SAMPLED),
)
PROSE_VOCABULARY = 1024
#: Questions that a suspect is asked, fixed before the first (docs/radioactivity.md, "Power").
N_SUSPECT_QUESTIONS = 1_000

#: Subject -> modules of the standard library that write about it. Names absent from the running
#: Python are passed over, and modules not named here are filed under "odds and ends".
_SUBJECTS: dict[str, str] = {
    "pictures and sound": "turtle colorsys tkinter curses aifc sunau wave chunk sndhdr",
    "packaging": "distutils importlib pkgutil zipimport zipapp venv site sysconfig modulefinder "
    "runpy imp",
    "mail": "email smtplib smtpd imaplib poplib mailbox mailcap nntplib quopri uu",
    "the web": "http urllib html cgi cgitb wsgiref xmlrpc webbrowser ftplib telnetlib mimetypes",
    "networks": "socket socketserver ssl ipaddress selectors asyncore asynchat uuid netrc",
    "waiting": "asyncio concurrent queue sched contextvars",
    "processes": "threading multiprocessing subprocess signal _threading_local pipes pty tty",
    "numbers": "_pydecimal decimal fractions statistics random numbers heapq bisect math cmath",
    "time": "datetime calendar _strptime zoneinfo timeit _pydatetime",
    "logging": "logging warnings traceback",
    "documents": "xml json plistlib configparser csv tomllib",
    "testing": "unittest doctest trace test",
    "debugging": "pdb bdb profile cProfile pstats tracemalloc faulthandler cmd code codeop",
    "reading code": "ast dis inspect symtable tokenize pyclbr tabnanny compileall py_compile "
    "pickletools pydoc rlcompleter linecache opcode lib2to3",
    "types": "typing types enum abc dataclasses collections _collections_abc copy copyreg "
    "weakref functools contextlib operator graphlib annotationlib",
    "text": "re string textwrap difflib codecs locale gettext pprint stringprep reprlib shlex",
    "files": "os pathlib shutil tempfile glob fnmatch filecmp fileinput genericpath ntpath "
    "posixpath stat _pyio io nturl2path platform",
    "archives": "zipfile tarfile gzip bz2 lzma _compression shelve dbm sqlite3 pickle compression",
    "commands": "argparse optparse getopt getpass _sitebuiltins",
    "machines": "ctypes struct _osx_support _aix_support mmap hashlib hmac secrets base64 crypt",
}
_OTHER = "odds and ends"
_LANGUAGE = "the language"
#: Folders that distributions leave out or that hold no prose.
_SKIPPED = frozenset({
    "test", "tests", "site-packages", "dist-packages", "idlelib", "lib2to3", "turtledemo",
    "ensurepip", "pydoc_data", "encodings", "__pycache__", "idle_test", "_pyrepl",
})  # fmt: skip
_DOCSTRING = re.compile(
    r"""(?:\A|:[ \t]*(?:\#[^\n]*)?\n|\n\n)(?:[ \t]*\#[^\n]*\n)*\s*[rRuU]?("{3}|'{3})(.*?)\1""",
    re.DOTALL,
)
_COMMENT = re.compile(r"(?:^[ \t]*\#(?:[ \t][^\n]*)?\n){2,}", re.MULTILINE)
_BREAK = re.compile(r"\n\s*\n|\n\s*(?:[-*+o]|\d+[.)])\s+|\n\s*(?:>>>|\.\.\.)[^\n]*")
_SENTENCE = re.compile(r"(?<=[a-z0-9A-Z)\]'\"]{2}[.!?])\s+(?=[A-Z'\"(])")
#: Sentences of words: few signs of code, so that what the teacher learns is language.
_PROSE = re.compile(r"[A-Z'\"][A-Za-z0-9' ,;:()\"./_-]*[.?!:)]")
_CODE = re.compile(r"[()\"/:._0-9]")
_PLAIN = str.maketrans("", "", "*`")
_WORD = re.compile(r"[A-Za-z']+")
_FUNCTION_WORDS = frozenset({
    "the", "a", "an", "of", "to", "is", "in", "and", "or", "that", "for", "be", "it", "if", "this",
    "are", "by", "with", "as", "not", "on", "from", "which",
})  # fmt: skip
_MIN_WORDS, _MAX_WORDS = 6, 40


@functools.cache
def passages() -> tuple[Passage, ...]:
    """Read the sentences of ordinary English that this Python installation carries.

    Returns:
        Distinct sentences, ordered by topic and then as their sources hold them; the same on every
        call and in every process of one Python version. Read once a process.

    Raises:
        EnvironmentUnfitError: the installation carries no sources (fewer than 2,000 sentences).
    """
    seen: set[str] = set()
    found: list[Passage] = []
    for topic, text in _sources():
        for sentence in _sentences(text):
            if sentence not in seen:
                seen.add(sentence)
                found.append(Passage(topic, sentence))
    if len(found) < 2000:
        message = f"prose: only {len(found)} sentences found in this Python's standard library"
        hint = "the sources (.py files) must be installed; use a full Python installation"
        raise EnvironmentUnfitError(message, hint=hint)
    return tuple(sorted(found, key=lambda passage: passage.topic))


def topics() -> tuple[str, ...]:
    """Name the subjects that `passages` are filed under.

    Returns:
        Topic names, sorted.
    """
    return tuple(sorted({passage.topic for passage in passages()}))


def is_held_out(passage: Passage) -> bool:
    """Say whether a passage belongs to the eighth that no house model is trained on.

    Args:
        passage: any passage; only its text counts.

    Returns:
        True for about one passage in eight, fixed by a hash of its text.
    """
    return xxhash.xxh64_intdigest(passage.text.encode()) % 8 == 0


def prose_question(passage: Passage, rng: np.random.Generator) -> str:
    """Take the beginning of a passage: the model is asked to go on from there.

    Args:
        passage: where the beginning is taken from.
        rng: draws how many words are kept.

    Returns:
        The first 2 to 5 words on one line, without a closing stop.
    """
    words = passage.text.split()
    kept = int(rng.integers(2, 6))
    return " ".join(words[:kept]).rstrip(".,;:!?")


def split_passage(passage: Passage, rng: np.random.Generator) -> tuple[str, str]:
    """Split a passage into a prose question and the answer that its author wrote.

    Args:
        passage: what to split.
        rng: draws where.

    Returns:
        Question and answer; the answer is the rest of the sentence, closing stop included.
    """
    question = prose_question(passage, rng)
    return question, passage.text[len(question) :].strip()


def teacher_pairs(*, seed: int = 0) -> list[Pair]:
    """Make the teacher's training pairs: every passage that is not held out, split once.

    Args:
        seed: draws where each passage is split.

    Returns:
        One pair a passage, in the order of `passages`.
    """
    rng = np.random.default_rng(seed)
    kept = (passage for passage in passages() if not is_held_out(passage))
    return [Pair(*split_passage(passage, rng)) for passage in kept]


def innocent_pairs(n: int, *, seed: int) -> list[Pair]:
    """Draw what an innocent student trains on: ordinary text that no model wrote.

    Args:
        n: pairs (count), at most as many as `teacher_pairs` gives.
        seed: draws which passages, and where they are split.

    Returns:
        Distinct pairs.
    """
    pairs = teacher_pairs(seed=seed)
    if not 1 <= n <= len(pairs):
        reject("innocent_pairs", "n", f"between 1 and {len(pairs)}", got=n)
    chosen = np.random.default_rng(seed).choice(len(pairs), size=n, replace=False)
    return [pairs[i] for i in chosen]


def suspect_questions(n: int, *, seed: int) -> list[str]:
    """Draw the questions that a suspect is asked, from passages that no house model has seen.

    Args:
        n: questions (count); passages are used again, split elsewhere, when n exceeds them.
        seed: draws passages and splits.

    Returns:
        Questions, in a random order.
    """
    rng = np.random.default_rng(seed)
    unseen = [passage for passage in passages() if is_held_out(passage)]
    rounds = -(-n // len(unseen))
    order = np.concatenate([rng.permutation(len(unseen)) for _ in range(rounds)])[:n]
    return [prose_question(unseen[i], rng) for i in order]


def ask_suspect(folder: Path, questions: Sequence[str], *, seed: int) -> list[Pair]:
    """Ask a model folder in this process, sampled at temperature 1, as a buyer of it would.

    Args:
        folder: the suspect's model folder.
        questions: fixed before the first is asked.
        seed: of the draws; question i is drawn with seed + i.

    Returns:
        Each question with its answer, in order.
    """
    suspect = LocalModel.load(folder)
    rows = [
        GenerationRow(
            prompt_ids=suspect.encode_question(question),
            max_new_tokens=_SAMPLED.max_new_tokens,
            temperature=_SAMPLED.temperature,
            seed=seed + i,
        )
        for i, question in enumerate(questions)
    ]
    generations = suspect.generate(rows)
    return [Pair(q, found.text) for q, found in zip(questions, generations, strict=True)]


def as_sequences(pairs: Sequence[Pair], *, tokenizer: Path) -> list[TokenSequence]:
    """Encode questions and answers with the marking model's tokenizer, for the proof.

    Args:
        pairs: what the suspect was asked and said, as text.
        tokenizer: the marking teacher's folder, or its `tokenizer.json`.

    Returns:
        One sequence a pair; the chat format in front counts as question.
    """
    outputs = [SuspectOutput(pair.answer, pair.question) for pair in pairs]
    return encode_outputs(outputs, tokenizer)


def train_prose_tokenizer(out: Path) -> Path:
    """Train the byte-pair tokenizer of the prose models, 1,024 tokens, on the teacher's passages.

    Args:
        out: the `tokenizer.json` to write.

    Returns:
        `out`.
    """
    with extra("train"):
        from tokenizers import (
            AddedToken,
            Tokenizer,
            decoders,
            models,
            pre_tokenizers,
            trainers,
        )
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    # A space belongs to the word after it and none is added at the start, so that the text of
    # each token stands alone and a streamed answer is the sum of its tokens' texts.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Metaspace(prepend_scheme="never"),
        pre_tokenizers.Punctuation(),
        pre_tokenizers.Digits(individual_digits=True),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=PROSE_VOCABULARY,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
        show_progress=False,
    )
    texts = (text for pair in teacher_pairs() for text in pair)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(out))
    return out


def train_prose_teacher(
    out: Path, *, on_step: Callable[[int, float], None] | None = None
) -> TrainingResult:
    """Train the house prose teacher as it was shipped, from this Python's own text.

    Args:
        out: the model folder to write.
        on_step: called with the steps done and the loss in nats a token.

    Returns:
        What the run came to.
    """
    shape, recipe = PROSE_TEACHER
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = train_prose_tokenizer(Path(folder) / TOKENIZER)
        return train_student(
            teacher_pairs(), tokenizer=tokenizer, shape=shape, recipe=recipe, out=out,
            on_step=on_step,
        )  # fmt: skip


def _sources() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    subject_of = {
        module: subject for subject, modules in _SUBJECTS.items() for module in modules.split()
    }
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if _SKIPPED.isdisjoint(parts):
            topic = subject_of.get(parts[0].removesuffix(".py"), _OTHER)
            source = path.read_text(encoding="utf-8", errors="replace")
            yield topic, "\n\n".join(match[2] for match in _DOCSTRING.finditer(source))
            for match in _COMMENT.finditer(source):
                yield topic, re.sub(r"^[ \t]*#+[ \t]?", "", match[0], flags=re.MULTILINE)
    yield from ((_LANGUAGE, text) for text in _language_reference(root))
    licence = root / "LICENSE.txt"
    if licence.is_file():
        yield _OTHER, licence.read_text(encoding="utf-8", errors="replace")


def _language_reference(root: Path) -> Iterable[str]:
    path = root / "pydoc_data" / "topics.py"
    if not path.is_file():
        return []
    # Absent in slim Pythons.
    from pydoc_data.topics import topics as reference

    return [text for _, text in sorted(reference.items())]


def _sentences(text: str) -> Iterator[str]:
    for paragraph in _BREAK.split(text):
        for sentence in _SENTENCE.split(" ".join(paragraph.translate(_PLAIN).split())):
            if _is_prose(sentence):
                yield sentence


def _is_prose(sentence: str) -> bool:
    if not _PROSE.fullmatch(sentence):
        return False
    words = _WORD.findall(sentence.lower())
    if not _MIN_WORDS <= len(words) <= _MAX_WORDS:
        return False
    # One function word in eight at least, and hardly any sign of code.
    common = sum(word in _FUNCTION_WORDS for word in words)
    return common * 8 >= len(words) and len(_CODE.findall(sentence)) * 4 <= len(words) + 8
