"""Audit of a world: does any trivial field give the campaign away, and are people themselves?

`trivial_fields` computes, for every simple per-account figure, the area under the ROC curve of
campaign against honest accounts; `likeness` computes how alike one account's questions are.
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from scipy import sparse, stats

from stillwatch.record.exchange import Exchange
from stillwatch.siege.habits import PROSE_MODEL

#: A field whose AUC leaves this band gives the campaign away.
BAND = (0.2, 0.8)
_HASH_DIMENSIONS = 2**15
_WORD = re.compile(r"\w+")


class Likeness(NamedTuple):
    """How alike the questions of one account are.

    Attributes:
        f_ratio: one-way F over hashed word features; 1 when accounts are exchangeable.
        shuffled_f: the same with the accounts' labels shuffled.
        icc: intraclass correlation, the form of F that does not hang on questions per account.
        n_accounts: accounts counted.
        n_questions: distinct questions counted.
    """

    f_ratio: float
    shuffled_f: float
    icc: float
    n_accounts: int
    n_questions: int


def likeness(
    questions: Mapping[str, Sequence[str]], rng: np.random.Generator, *, most: int | None = None
) -> Likeness:
    """Measure by one-way analysis of variance how much accounts are themselves.

    Features: words and word pairs, log counts, hashed, inverse document frequency, unit length.

    Args:
        questions: account -> its questions; repeats count once, accounts below three are left out.
        rng: shuffles labels, and draws when `most` is set.
        most: distinct questions kept of each account, or None for all.

    Returns:
        The likeness; NaN where fewer than two accounts remain.
    """
    texts: list[str] = []
    labels: list[int] = []
    for own in questions.values():
        distinct = list(dict.fromkeys(own))
        if len(distinct) < 3:
            continue
        if most is not None and len(distinct) > most:
            distinct = [distinct[i] for i in rng.choice(len(distinct), most, replace=False)]
        labels += [labels[-1] + 1 if labels else 0] * len(distinct)
        texts += distinct
    if not labels or labels[-1] == 0:
        return Likeness(np.nan, np.nan, np.nan, int(bool(labels)), len(texts))
    group = np.array(labels)
    features = _word_features(texts)
    f_ratio, icc = _one_way(features, group)
    shuffled = float(np.mean([_one_way(features, rng.permutation(group))[0] for _ in range(5)]))
    return Likeness(f_ratio, shuffled, icc, labels[-1] + 1, len(texts))


def _word_features(texts: Sequence[str]) -> sparse.csr_matrix:
    rows: list[int] = []
    columns: list[int] = []
    counts: list[int] = []
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        bag = collections.Counter(words)
        bag.update(f"{a} {b}" for a, b in itertools.pairwise(words))
        rows += [row] * len(bag)
        columns += [xxhash.xxh32_intdigest(word.encode()) % _HASH_DIMENSIONS for word in bag]
        counts += bag.values()
    shape = (len(texts), _HASH_DIMENSIONS)
    table = sparse.csr_matrix((1.0 + np.log(counts), (rows, columns)), shape=shape)
    seen = np.bincount(table.indices, minlength=_HASH_DIMENSIONS)
    weighted = table @ sparse.diags(np.log((1 + len(texts)) / (1 + seen)) + 1.0)
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1.0 / np.maximum(length, 1e-12)) @ weighted)


def _one_way(features: sparse.csr_matrix, group: np.ndarray) -> tuple[float, float]:
    n, k = group.size, int(group.max()) + 1
    sizes = np.bincount(group)
    member = sparse.csr_matrix((np.ones(n), (group, np.arange(n))), shape=(k, n))
    sums = member @ features
    explained = float((np.asarray(sums.multiply(sums).sum(axis=1)).ravel() / sizes).sum())
    whole = np.asarray(features.sum(axis=0)).ravel()
    total = float(features.multiply(features).sum())
    between = (explained - float(whole @ whole) / n) / (k - 1)
    within = (total - explained) / (n - k)
    f_ratio = between / within
    typical = (n - float((sizes**2).sum()) / n) / (k - 1)
    return f_ratio, (f_ratio - 1.0) / (f_ratio - 1.0 + typical)


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Compute how often a positive's value exceeds a negative's, ties counted half.

    Args:
        positive: values of the campaign's accounts.
        negative: values of the honest accounts.

    Returns:
        0..1; 0.5 tells nothing, NaN when either side is empty.

    Example:
        >>> auc([3.0, 2.0], [1.0, 2.0])
        0.875
    """
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = stats.rankdata([*positive, *negative])
    n, m = len(positive), len(negative)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))


class _Shared(NamedTuple):
    """What a field of one account needs to know of all."""

    network: collections.Counter[str | None]
    agent: collections.Counter[str | None]
    org: collections.Counter[str | None]
    rank: Mapping[str, int]
    known: frozenset[str]


_Own = Sequence[Exchange]
_Field = Callable[[_Own, _Shared], float]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else 0.0


def _gaps(own: _Own) -> np.ndarray:
    times = np.sort([x.started_at for x in own])
    gaps = np.diff(times)
    return gaps if gaps.size else np.array([86_400.0])


def _hours(own: _Own) -> np.ndarray:
    return np.array([x.started_at % 86_400.0 / 3600.0 for x in own])


def _is_weekend(x: Exchange) -> bool:
    return (int(x.started_at // 86_400.0) + 3) % 7 >= 5


def _parameter(name: str, default: float) -> _Field:
    return lambda own, _: _mean(float(x.parameters.get(name, default)) for x in own)


def _share(text: str, pattern: re.Pattern[str]) -> float:
    return len(pattern.findall(text)) / max(len(text), 1)


_DIGIT, _CAPITAL, _MARK = re.compile(r"\d"), re.compile(r"[A-Z]"), re.compile(r"[?!.,:;]")

_FIELDS: dict[str, _Field] = {
    "exchanges": lambda own, _: len(own),
    "active days": lambda own, _: len({x.started_at // 86_400.0 for x in own}),
    "exchanges per active day": lambda own, _: (
        len(own) / len({x.started_at // 86_400.0 for x in own})
    ),
    "first seen": lambda own, _: min(x.started_at for x in own),
    "last seen": lambda own, _: max(x.started_at for x in own),
    "hour, sine": lambda own, _: float(np.sin(_hours(own) * np.pi / 12.0).mean()),
    "hour, cosine": lambda own, _: float(np.cos(_hours(own) * np.pi / 12.0).mean()),
    "hour, concentration": lambda own, _: float(abs(np.exp(1j * _hours(own) * np.pi / 12).mean())),
    "share at night": lambda own, _: float((_hours(own) < 6.0).mean()),
    "share on weekends": lambda own, _: _mean(_is_weekend(x) for x in own),
    "gap, median": lambda own, _: float(np.median(_gaps(own))),
    "gap, shortest": lambda own, _: float(_gaps(own).min()),
    "gap, longest": lambda own, _: float(_gaps(own).max()),
    "gap, variation": lambda own, _: float(_gaps(own).std() / max(_gaps(own).mean(), 1e-9)),
    "gap, share below a minute": lambda own, _: float((_gaps(own) < 60.0).mean()),
    "question, characters": lambda own, _: _mean(len(x.question) for x in own),
    "question, variation": lambda own, _: float(np.std([len(x.question) for x in own])),
    "question, shortest": lambda own, _: min(len(x.question) for x in own),
    "question, longest": lambda own, _: max(len(x.question) for x in own),
    "question, lines": lambda own, _: _mean(x.question.count("\n") for x in own),
    "last line, characters": lambda own, _: _mean(len(x.question.rsplit("\n", 1)[-1]) for x in own),
    "question, digits": lambda own, _: _mean(_share(x.question, _DIGIT) for x in own),
    "question, capitals": lambda own, _: _mean(_share(x.question, _CAPITAL) for x in own),
    "question, marks": lambda own, _: _mean(_share(x.question, _MARK) for x in own),
    "no system prompt": lambda own, _: _mean(not x.system for x in own),
    "system prompt, characters": lambda own, _: _mean(len(x.system) for x in own),
    "distinct system prompts": lambda own, _: len({x.system for x in own}),
    "share of repeats": lambda own, _: 1.0 - len({x.question for x in own}) / len(own),
    "share of prose": lambda own, _: _mean(x.model == PROSE_MODEL for x in own),
    "models": lambda own, _: len({x.model for x in own}),
    "networks": lambda own, _: len({x.network_hash for x in own}),
    "addresses": lambda own, _: len({x.ip_hash for x in own}),
    "accounts on its networks": lambda own, all_: max(all_.network[x.network_hash] for x in own),
    "user agents": lambda own, _: len({x.user_agent for x in own}),
    "accounts with its user agent": lambda own, all_: _mean(all_.agent[x.user_agent] for x in own),
    "browserless user agent": lambda own, _: _mean("ython" in (x.user_agent or "") for x in own),
    "no organisation": lambda own, _: float(own[0].org is None),
    "accounts of its organisation": lambda own, all_: all_.org[own[0].org] if own[0].org else 0,
    "streamed": lambda own, _: _mean(x.streamed for x in own),
    "temperature": _parameter("temperature", 1.0),
    "max_tokens": _parameter("max_tokens", 0.0),
    "max_tokens set": lambda own, _: _mean("max_tokens" in x.parameters for x in own),
    "top_p set": lambda own, _: _mean("top_p" in x.parameters for x in own),
    "parameters": lambda own, _: _mean(len(x.parameters) for x in own),
    "input tokens": lambda own, _: _mean(x.input_tokens or 0 for x in own),
    "output tokens": lambda own, _: _mean(x.output_tokens or 0 for x in own),
    "not seen before": lambda own, all_: own[0].account not in all_.known,
    "account id, order": lambda own, all_: all_.rank[own[0].account],
}


def trivial_fields(
    exchanges: Iterable[Exchange], campaign: Iterable[str], *, known: Iterable[str] = ()
) -> dict[str, float]:
    """Measure how well every simple per-account figure separates the campaign.

    Each figure is also tried by its distance from the median of all accounts ("..., spread"), so
    that a campaign which sits suspiciously in the middle of everybody would show as well.

    Args:
        exchanges: what was recorded in the live days.
        campaign: accounts that belong to the campaign.
        known: accounts of the days before, for the field "not seen before".

    Returns:
        Field -> AUC (0..1, 0.5 tells nothing), campaign as positives.
    """
    by_account: dict[str, list[Exchange]] = collections.defaultdict(list)
    for exchange in exchanges:
        by_account[exchange.account].append(exchange)
    shared = _look_around(by_account, frozenset(known))
    guilty = set(campaign)
    is_campaign = np.array([account in guilty for account in by_account])
    found = {}
    for name, field in _FIELDS.items():
        values = np.array([float(field(own, shared)) for own in by_account.values()])
        apart = np.abs(values - np.median(values)) if values.size else values
        found[name] = auc(values[is_campaign].tolist(), values[~is_campaign].tolist())
        found[f"{name}, spread"] = auc(apart[is_campaign].tolist(), apart[~is_campaign].tolist())
    return found


def telling_fields(fields: Mapping[str, float]) -> dict[str, float]:
    """Pick the fields that give the campaign away.

    Args:
        fields: from `trivial_fields`.

    Returns:
        Those outside `BAND`.
    """
    low, high = BAND
    return {name: value for name, value in fields.items() if not low <= value <= high}


def _look_around(by_account: Mapping[str, _Own], known: frozenset[str]) -> _Shared:
    networks: collections.Counter[str | None] = collections.Counter()
    agents: collections.Counter[str | None] = collections.Counter()
    orgs: collections.Counter[str | None] = collections.Counter()
    for own in by_account.values():
        networks.update({x.network_hash for x in own})
        agents.update({x.user_agent for x in own})
        orgs.update({x.org for x in own})
    rank = {account: place for place, account in enumerate(sorted(by_account))}
    return _Shared(networks, agents, orgs, rank, known)
