"""A TF-IDF co-trait network: accounts x traits, cosine, strong links, components.

Source: Pacheco et al., ICWSM 2021, as the common tools for coordination networks do it. Values
used by more than half of the accounts are stop words.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from baselines.linking import components, incidence, similar_pairs
from yardstick.observed import Observed
from yardstick.score import Group

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
WORDING = ("system", "opening", "closing", "question")
PUBLISHED = "all traits, cosine 0.5"
_COMMONEST = 0.5


def find_groups(observed: Observed, *, min_accounts: int = 12) -> dict[str, list[Group]]:
    """Build the network of all traits, of wording, and of the rest, under every threshold.

    Args:
        observed: the log.
        min_accounts: smaller components are left out.

    Returns:
        Groups by the setting's name.
    """
    rest = [name for name in observed.traits if name not in WORDING]
    parts = {"all traits": list(observed.traits), "wording": list(WORDING), "the rest": rest}
    found: dict[str, list[Group]] = {}
    for part, traits in parts.items():
        pairs = list(similar_pairs(_tf_idf(_table(observed, traits)), jaccard=False, least=0.1))
        for least in THRESHOLDS:
            found[f"{part}, cosine {least}"] = components(
                pairs, observed, least=least, min_accounts=min_accounts
            )
    return found


def _table(observed: Observed, traits: list[str]) -> sparse.csr_array:
    accounts, values, base = [], [], 0
    for codes in (observed.traits[name] for name in traits):
        rows = np.flatnonzero(observed.live & (codes >= 0))
        accounts.append(observed.account[rows])
        values.append(base + codes[rows])
        base += int(codes.max(initial=0)) + 1
    return incidence(
        np.concatenate(accounts), np.concatenate(values), n_accounts=observed.n_accounts
    )


def _tf_idf(table: sparse.csr_array) -> sparse.csr_array:
    """Weigh counts by rarity and give every account unit length."""
    n_live = max(int((np.diff(table.indptr) > 0).sum()), 1)
    holders = np.bincount(table.indices, minlength=table.shape[1])
    rarity = np.log(n_live / np.maximum(holders, 1)) * (holders <= _COMMONEST * n_live)
    weighted = table.copy()
    weighted.data = (1 + np.log(table.data)) * rarity[table.indices]
    length = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    inverse = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    weighted.data *= np.repeat(inverse, np.diff(weighted.indptr))
    return weighted
