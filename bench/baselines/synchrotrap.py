"""A SynchroTrap-like join: accounts that touch the same objects at the same time.

Source: Cao et al., CCS 2014. An action is (account, object, time). Two actions match when their
object is the same and their times fall into one window of `window_s`; every action is put into two
overlapping rows of windows, so that neighbours across a border match. Accounts are as similar as
the Jaccard index of their matched actions over all objects; links of at least a threshold, then
connected components. Raw questions never co-occur in a queue, so objects are what a template
leaves: the first and last eight words (digits masked), the system prompt, the network.
"""

from __future__ import annotations

import numpy as np

from baselines.linking import components, incidence, similar_pairs
from yardstick.observed import Observed
from yardstick.score import Group

OBJECTS = ("opening", "closing", "system", "network")
WINDOWS_S = (300.0, 3_600.0, 86_400.0)
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)
#: The open implementation's own choice (luochang212/SynchroTrap).
PUBLISHED = "all objects, 300 s, Jaccard 0.05"


def find_groups(observed: Observed, *, min_accounts: int = 12) -> dict[str, list[Group]]:
    """Join over all objects and over each alone, under every setting.

    Args:
        observed: the log.
        min_accounts: smaller components are left out.

    Returns:
        Groups by the setting's name.
    """
    parts = {"all objects": OBJECTS, **{name: (name,) for name in OBJECTS}}
    found: dict[str, list[Group]] = {}
    for part, objects in parts.items():
        for window_s in WINDOWS_S:
            account, action = _actions(observed, objects, window_s)
            table = incidence(account, action, n_accounts=observed.n_accounts)
            table.data[:] = 1.0
            pairs = list(similar_pairs(table, jaccard=True, least=THRESHOLDS[0]))
            for least in THRESHOLDS:
                found[f"{part}, {window_s:.0f} s, Jaccard {least}"] = components(
                    pairs, observed, least=least, min_accounts=min_accounts
                )
    return found


def _actions(
    observed: Observed, objects: tuple[str, ...], window_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """List (account, code of object and window) of all live rows."""
    n_windows = int(np.ptp(observed.started_at) // window_s) + 2
    accounts, actions, base = [], [], 0
    for name in objects:
        codes = observed.traits[name]
        rows = np.flatnonzero(observed.live & (codes >= 0))
        since = observed.started_at[rows] - observed.started_at.min()
        for shift in (0.0, window_s / 2):
            window = ((since + shift) // window_s).astype(np.int64)
            accounts.append(observed.account[rows])
            actions.append(base + codes[rows] * n_windows + window)
            base += (int(codes.max(initial=0)) + 1) * n_windows
    return np.concatenate(accounts), np.concatenate(actions)
