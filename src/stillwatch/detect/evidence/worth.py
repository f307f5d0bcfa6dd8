"""What answers are worth: list prices, subjects, and the words that set questions apart."""

from __future__ import annotations

import fnmatch
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stillwatch.detect.evidence.quotes import content_words
from stillwatch.errors import reject


class Price(NamedTuple):
    """List price of a model.

    Attributes:
        pattern: model names it holds for, `*` for any letters.
        usd_input: of a million input tokens.
        usd_output: of a million output tokens.
    """

    pattern: str
    usd_input: float
    usd_output: float


#: When the list below was read from the vendors' public pages; no discounts, no caching.
PRICES_AS_OF = "November 2026"
#: The first pattern that fits counts.
PRICES = (
    Price("claude-fable-5*", 10.0, 50.0),
    Price("claude-opus-5-5*", 4.0, 20.0),
    Price("claude-opus-5*", 5.0, 25.0),
    Price("claude-sonnet-5*", 2.0, 10.0),
    Price("claude-haiku-5-5*", 0.1, 0.5),
    Price("claude-haiku-4-5*", 1.0, 5.0),
    Price("gpt-6.1-sol*", 2.0, 10.0),
    Price("gpt-6.1-terra*", 1.0, 5.0),
    Price("gpt-6-sol*", 2.0, 10.0),
    Price("gpt-6-luna*", 0.1, 0.5),
    Price("gpt-5.6-sol*", 5.0, 30.0),
    Price("gpt-5.6-terra*", 2.0, 12.0),
    Price("gpt-5.6-luna*", 0.2, 1.2),
    Price("gpt-5-nano*", 0.05, 0.4),
)
#: Models without a price may be so large a share of what was read before no sum is given.
_UNPRICED = 0.2

_SUBJECTS = {
    "code": "function functions code python javascript java rust sql compile compiler bug class "
    "method api array arrays list string strings script algorithm debug refactor repository regex "
    "html css implement loop variable integer database query program programming sort sorted "
    "syntax component react return returns import exception def print",
    "mathematics": "equation integral derivative prove theorem polynomial probability triangle "
    "matrix solve sum algebra geometry fraction prime vector total twice half percent per cost "
    "costs miles hours minutes dollars cents pounds remaining altogether average times less bought "
    "sells sold earns spends",
    "reasoning puzzles": "options true false statement statements deduction sarcastic plausible "
    "evaluates evaluate left right shuffled positions facing liar truth lies logically follow "
    "valid invalid sequence sort word words answer",
    "tools and agents": "tool tools agent browser terminal command json schema call calls api "
    "observation action actions parameters function functions thought page click",
    "science": "physics chemistry biology molecule energy velocity cell cells protein force atom "
    "reaction species gravity experiment enzyme temperature electron planet planets light theory",
    "medicine": "patient patients symptom symptoms diagnosis disease treatment dose clinical drug "
    "drugs therapy medical surgery blood infection doctor pain",
    "law": "contract court statute liability plaintiff legal clause attorney regulation lawsuit "
    "defendant jurisdiction law laws rights",
    "finance": "stock stocks market revenue interest loan investment tax taxes portfolio profit "
    "budget bank account card transfer payment mortgage credit savings",
    "writing": "essay story poem write paragraph novel character characters dialogue letter blog "
    "email headline slogan lyrics tweet caption script",
    "role play": "imagine character role pretend wizard scenario persona perspective advice act "
    "king queen detective pirate knight famous",
    "language": "translate translation grammar sentence sentences synonym synonyms spanish french "
    "german chinese english japanese italian verb noun adjective spelling paraphrase rewrite",
}
_LEXICON = {subject: frozenset(words.split()) for subject, words in _SUBJECTS.items()}
_ASKS_NUMBER = re.compile(r"how (?:many|much|long|far|old)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+")
_SHORTEST, _MOST_WORDS = 3, 14
#: Words that say nothing about a subject.
_FUNCTION = frozenset((
    "the", "and", "for", "with", "that", "this", "from", "have", "has", "had", "not", "are", "was",
    "were", "you", "your", "they", "she", "her", "his", "him", "its", "our", "their", "who",
    "what", "when", "where", "which", "how", "why", "many", "much", "each", "all", "any", "does",
    "did", "can", "could", "will", "would", "should", "may", "might", "into", "out", "about",
    "over", "than", "then", "them", "there", "these", "those", "also", "been", "but", "some",
    "more", "most", "one", "two", "use", "using", "used",
))  # fmt: skip
_LEAST_TEXTS = 3


def parse_price(text: str) -> Price:
    """Read a price as the command line has it.

    Args:
        text: `MODEL=INPUT/OUTPUT`, US dollars for a million tokens, such as `my-model*=3/15`.

    Returns:
        The price.

    Raises:
        InvalidInputError: the text has another shape.

    Example:
        >>> parse_price("my-model*=3/15")
        Price(pattern='my-model*', usd_input=3.0, usd_output=15.0)
    """
    found = re.fullmatch(r"(.+)=\$?(\d+(?:\.\d+)?)/\$?(\d+(?:\.\d+)?)", text.strip())
    if not found:
        reject(
            "detect",
            "--price",
            "MODEL=INPUT/OUTPUT in US dollars for a million tokens",
            got=text,
            hint="--price 'my-model*=3/15'",
        )
    return Price(found[1], float(found[2]), float(found[3]))


class Priced(NamedTuple):
    """Average price of what was asked.

    Attributes:
        usd_input: of a million input tokens.
        usd_output: of a million output tokens.
        source: where the prices come from, a clause.
    """

    usd_input: float
    usd_output: float
    source: str


def average_price(models: Mapping[str, float], own: Sequence[Price] = ()) -> Priced | None:
    """Average list prices over the models asked.

    Args:
        models: model -> share of the questions; empty when the models are not known.
        own: prices that the user gave, looked at first.

    Returns:
        The price, or None when too many of the questions went to models without one.
    """
    if not models:
        every = next((price for price in own if price.pattern == "*"), None)
        return None if every is None else Priced(*every[1:], "prices given")
    found = {model: _price_of(model, [*own, *PRICES]) for model in models}
    priced = {model: price for model, price in found.items() if price is not None}
    known = sum(models[model] for model in priced)
    if known < (1.0 - _UNPRICED) * sum(models.values()):
        return None
    usd_input = sum(models[m] * p.usd_input for m, p in priced.items()) / known
    usd_output = sum(models[m] * p.usd_output for m, p in priced.items()) / known
    given = {p for p in priced.values() if p in own}
    sources = ["prices given"] * bool(given)
    sources += [f"list prices of {PRICES_AS_OF}"] * (len(given) < len(set(priced.values())))
    return Priced(usd_input, usd_output, ", ".join(sources))


def shares(values: Iterable[str]) -> dict[str, float]:
    """Count values as shares of all.

    Args:
        values: any; empty ones are left out.

    Returns:
        Value -> share, the commonest first.
    """
    counts = Counter(value for value in values if value)
    total = sum(counts.values())
    return {value: round(n / total, 4) for value, n in counts.most_common()}


def subject_shares(texts: Sequence[str]) -> dict[str, float]:
    """Tell what questions are about, by the words that name a subject.

    A question counts for every subject of which it holds two words, or, short as it is, one in
    twelve of its words.

    Args:
        texts: questions without their shared wording.

    Returns:
        Subject -> share of the questions, 0..1, the commonest first; subjects of none left out.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        words = content_words(text)
        for subject, lexicon in _LEXICON.items():
            hits = len({word for word in words if word in lexicon})
            hits += 2 * (subject == "mathematics" and _counts(text))
            if hits >= 2 or (hits and 12 * hits >= len(words)):
                counts[subject] += 1
    return {subject: round(n / len(texts), 4) for subject, n in counts.most_common()}


def telling_words(texts: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """Find the words that set questions apart from others.

    Args:
        texts: questions without their shared wording.
        others: questions of other accounts.

    Returns:
        Words, the most telling first, none without others to compare with.
    Source: Monroe, Colaresi and Quinn 2008, log odds with a prior, here of half a text a word and
        counted in texts; words above two standard deviations.
    """
    here, there = _texts_with(texts), _texts_with(others)
    if not others:
        return ()
    scored = []
    for word, n in here.items():
        if n < _LEAST_TEXTS:
            continue
        m = there[word]
        gap = _log_odds(n, len(texts)) - _log_odds(m, len(others))
        deviation = math.sqrt(1.0 / (n + 0.5) + 1.0 / (m + 0.5))
        scored.append((gap / deviation, word))
    return tuple(word for z, word in sorted(scored, reverse=True) if z > 2.0)[:_MOST_WORDS]


def _counts(text: str) -> bool:
    """Tell whether a text gives numbers and asks for another one."""
    return bool(_ASKS_NUMBER.search(text)) and len(_NUMBER.findall(text)) >= 2


def _texts_with(texts: Sequence[str]) -> Counter[str]:
    return Counter(
        word
        for text in texts
        for word in set(content_words(text)) - _FUNCTION
        if len(word) >= _SHORTEST
    )


def _log_odds(n: int, total: int) -> float:
    return math.log((n + 0.5) / (total - n + 0.5))


def _price_of(model: str, prices: Sequence[Price]) -> Price | None:
    # A gateway writes provider/model; the list knows the model.
    names = (model, model.rsplit("/", 1)[-1])
    return next((p for p in prices for name in names if fnmatch.fnmatchcase(name, p.pattern)), None)
