"""Before the test: keys that do not lean on ordinary text, and how many tokens will be needed.

Both are settled before the first question. A key is fixed for good, so by bad luck it may lean: the
windows of ordinary text are a little greener than gamma under it, and every innocent suspect that
writes ordinary text starts with a handicap. Such a key is found on reference text and replaced
before it is used. And a test that had no chance to find anything proves nothing: `plan_tokens`
tells from a rehearsal with a student of one's own how many tokens the planned power takes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy import special

from stillwatch.errors import reject
from stillwatch.trace.watermark import GreenListMark, Windows, campaign_mark

#: A key is refused when reference text of independent origin would be so green by chance only this
#: often: three keys in ten are.
LEAN_LIMIT = 0.3


class KeyChoice(NamedTuple):
    """A campaign's mark, chosen before it was used.

    Attributes:
        mark: the mark.
        campaign_id: what it was derived from: the campaign's name, with `#2`, `#3` ... behind it
            when earlier keys leaned. Keep it: `campaign_mark` gives the mark again.
        p_values: of the reference text under each key that was tried, the chosen one last.
    """

    mark: GreenListMark
    campaign_id: str
    p_values: tuple[float, ...]


class TokenPlan(NamedTuple):
    """How far a suspect's outputs reach.

    Attributes:
        needed: tokens for the planned power (count).
        have: tokens at hand (count).
        power: chance of reaching alpha with what is at hand.
    """

    needed: int
    have: int
    power: float

    @property
    def still_needed(self) -> int:
        """Tokens to ask for yet (count)."""
        return max(self.needed - self.have, 0)


def choose_mark(
    master_key: bytes,
    campaign_id: str,
    *,
    reference: Windows,
    limit: float = LEAN_LIMIT,
    gamma: float = 0.25,
    delta: float = 2.0,
) -> KeyChoice:
    """Derive a campaign's mark whose key does not lean on ordinary text.

    The choice sees reference text only, so it can only make the test of an innocent suspect more
    conservative: colours that favour ordinary text are avoided.

    Args:
        master_key: the provider's secret.
        campaign_id: as the verdict names the campaign.
        reference: distinct windows of ordinary text, or of the model's own unmarked answers.
        limit: a key is replaced when the reference's p-value under it is below this, 0..0.9.
        gamma: share of green tokens.
        delta: how hard green tokens are pushed (nats).

    Returns:
        The first key that does not lean.
    """
    if not 0 <= limit <= 0.9:
        reject("choose_mark", "limit", "between 0 and 0.9", got=limit)
    p_values: list[float] = []
    while True:
        name = campaign_id if not p_values else f"{campaign_id}#{len(p_values) + 1}"
        mark = campaign_mark(master_key, name, gamma=gamma, delta=delta)
        p_values.append(mark.count(reference).p_value().p_value)
        if p_values[-1] >= limit:
            return KeyChoice(mark, name, tuple(p_values))


def effect_per_token(standard_score: float, n_tokens: int) -> float:
    """Measure a rehearsal: how fast evidence grows.

    Args:
        standard_score: of a weighted test of a student that was trained as suspected.
        n_tokens: tokens that it read or wrote (count).

    Returns:
        Standard deviations per square root of a token.
    """
    if n_tokens < 1:
        reject("effect_per_token", "n_tokens", "at least 1", got=n_tokens)
    return standard_score / math.sqrt(n_tokens)


def plan_tokens(
    effect: float, *, alpha: float = 1e-6, power: float = 0.9, have: int = 0
) -> TokenPlan:
    """Plan how many tokens a weighted test needs (normal approximation).

    Args:
        effect: from `effect_per_token`, above 0. It shrinks with the marked share: at a tenth of
            the marked share expect about a tenth.
        alpha: p-value to reach.
        power: chance of reaching it.
        have: tokens at hand (count).

    Returns:
        The plan.

    Example:
        >>> plan_tokens(0.05, alpha=1e-6, power=0.9, have=5_000)
        TokenPlan(needed=14569, have=5000, power=0.112)
    """
    if not effect > 0:
        reject("plan_tokens", "effect", "above 0", got=effect)
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            reject("plan_tokens", name, "strictly between 0 and 1", got=value)
    reach = -float(special.ndtri(alpha))
    needed = math.ceil(((reach + max(float(special.ndtri(power)), -reach)) / effect) ** 2)
    now = float(special.ndtr(effect * math.sqrt(have) - reach))
    return TokenPlan(needed, have, round(now, 3))
