"""Keys and tokens, settled before the first question."""

import numpy as np
import pytest
from radio_language import VOCAB, language, write

from stillwatch.errors import InvalidInputError
from stillwatch.trace.radioactivity.planning import choose_mark, effect_per_token, plan_tokens
from stillwatch.trace.radioactivity.windows import distinct_windows
from stillwatch.trace.watermark import campaign_mark

REFERENCE = distinct_windows(write(language(), seed=1), vocab_size=VOCAB)
MASTER = b"a master key of the house, long enough"


def test_a_key_that_leans_on_ordinary_text_is_replaced():
    """The chosen key does not lean, those before it did, and it can be derived again."""
    replaced = 0
    for i in range(40):
        choice = choose_mark(MASTER, f"c-{i}", reference=REFERENCE)
        assert all(p < 0.3 for p in choice.p_values[:-1])
        assert choice.p_values[-1] >= 0.3
        assert campaign_mark(MASTER, choice.campaign_id) == choice.mark
        replaced += len(choice.p_values) > 1
    # Three keys in ten lean that far by chance.
    assert 4 <= replaced <= 20


def test_without_a_limit_the_first_key_is_taken():
    """A limit of 0 replaces nothing."""
    choice = choose_mark(MASTER, "c-1", reference=REFERENCE, limit=0.0, gamma=0.5, delta=1.0)
    assert campaign_mark(MASTER, "c-1", gamma=0.5, delta=1.0) == choice.mark
    assert ("c-1", 1) == (choice.campaign_id, len(choice.p_values))


def test_planned_tokens_give_the_planned_power():
    """A score that grows by the root of the tokens reaches alpha as often as planned."""
    plan = plan_tokens(effect_per_token(5.0, 10_000), alpha=1e-6, power=0.8)
    rng = np.random.default_rng(0)
    scores = 0.05 * np.sqrt(plan.needed) + rng.standard_normal(20_000)
    assert np.mean(scores > 4.7534) == pytest.approx(0.8, abs=0.02)
    enough = plan_tokens(0.05, alpha=1e-6, power=0.8, have=plan.needed)
    assert (0.8, 0) == (enough.power, enough.still_needed)
    assert plan_tokens(0.05, have=1_000).still_needed == plan_tokens(0.05).needed - 1_000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan_tokens(0.0), "effect must be above 0"),
        (lambda: plan_tokens(0.1, alpha=0.0), "alpha must be strictly between 0 and 1"),
        (lambda: plan_tokens(0.1, power=1.0), "power must be strictly between 0 and 1"),
        (lambda: effect_per_token(1.0, 0), "n_tokens must be at least 1"),
        (
            lambda: choose_mark(MASTER, "c", reference=REFERENCE, limit=1.0),
            "limit must be between 0 and 0.9",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(call, message):
    """Values out of range are refused by name."""
    with pytest.raises(InvalidInputError, match=message):
        call()
