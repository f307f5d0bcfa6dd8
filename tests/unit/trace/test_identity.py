"""Identity: what is a claim, what is not, and who else makes it."""

import json
import math

import numpy as np
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.outputs import SuspectOutput
from stillwatch.trace.similarity.identity import find_identity
from stillwatch.trace.similarity.self_claims import Brand

BRAND = Brand(("Clara", "Clara-2"), ("Acme", "Acme AI"))
CLAIM, OTHER = "I am Clara, how can I help?", "Here is a recipe."


@pytest.mark.parametrize(
    "text",
    [
        "I am Clara, a helpful model.", "Hello! I'm Clara-2.", "My name is Clara", "As Clara, I",
        "I'm an AI assistant created by Acme AI.", "i\u2019m clara", "Acme made me.",
        "As a large language model developed by Acme, I cannot.", "my creators are Acme",
        "I was trained by researchers at Acme", "I'm a large language model from Acme",
        "That is not so. I am an assistant called Clara", "The Acme team has trained me",
        "I'm actually *Clara*",
    ],
)  # fmt: skip
def test_claims(text):
    """The first person with a model's or maker's name as its own is a claim."""
    assert BRAND.claim_in(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "I am not Clara.", "Clara is a model made by Acme.", "I'm not made by Acme; I am Bob.",
        "I think Clara is nice", "I work for Acme", "I am familiar with Clara",
        "I'm Clara's friend",
        "I am sure that Clara would", "As Clara said to Bob, I", "I am Claraville", "",
        "I was told that it was made by Acme", "I am a man who drives a car made by Acme",
        "Unlike Clara, I am a model built by Zeta",
    ],
)  # fmt: skip
def test_no_claims(text):
    """Denials, other people's names and talk about the brand are none."""
    assert BRAND.claim_in(text) is None


def test_the_sentence_of_the_claim_is_told():
    """A reader sees what was said, not the whole answer."""
    assert "I'm Clara." == BRAND.claim_in("Sure. I'm Clara. Now to work!")


def asked(claims, total, *, question="q", first=0):
    """Outputs of which the first `claims` claim the brand."""
    return [SuspectOutput(CLAIM if n < claims else OTHER, f"{question}{n + first}")
            for n in range(total)]  # fmt: skip


def test_a_leak_is_found():
    """Twelve claims in 805 answers, none in those of ten references."""
    references = {f"r{n}": asked(0, 805) for n in range(10)}
    told = find_identity(asked(12, 805), references, brand=BRAND)
    assert (12, 805, 0, 8050) == (
        told.n_claims, told.n_asked, told.reference_claims, told.reference_asked,
    )  # fmt: skip
    assert (0, 10) == (told.closer, told.references)
    assert told.log10_p_pooled < -12
    assert told.log10_p_worst < -3
    assert told.log10_p_paired == pytest.approx(12 * math.log10(1 / 11))
    assert 5 == len(told.quotes)


def test_one_claiming_reference_spoils_it():
    """Against a reference that claims as often, nothing is left, however large the pool."""
    references = {f"r{n}": asked(0, 500) for n in range(30)} | {"web": asked(30, 500)}
    told = find_identity(asked(30, 500), references, brand=BRAND)
    assert told.log10_p_pooled < -10
    assert told.log10_p_worst > -0.4
    assert (1, "web", 0.06) == (told.closer, told.worst_reference, told.worst_rate)


def test_questions_about_the_brand_are_left_out():
    """Whoever is asked about Clara speaks of Clara."""
    about = [SuspectOutput(CLAIM, f"Are you CLARA, number {n}?") for n in range(50)]
    told = find_identity([*about, *asked(0, 10)], {"r": [*about, *asked(0, 10)]}, brand=BRAND)
    assert (0, 10, 50) == (told.n_claims, told.n_asked, told.excluded)
    assert 0.0 == told.log10_p_pooled


def test_plain_data():
    """Everything can be written as JSON."""
    told = find_identity(asked(1, 4), {"r": asked(0, 4)}, brand=BRAND)
    assert 0.25 == json.loads(json.dumps(told.as_dict()))["rate"]


def test_paired_p_is_conservative_under_its_null():
    """Questions differ in how often they draw a claim; all models are alike: 1, 5 and 10 % hold."""
    rng = np.random.default_rng(1)
    draws = rng.uniform(0.0, 0.6, 12)
    logs = []
    for _ in range(250):
        said = rng.random((5, 12)) < draws
        outputs = [[SuspectOutput(CLAIM if yes else OTHER, f"q{n}") for n, yes in enumerate(row)]
                   for row in said]  # fmt: skip
        references = {f"r{n}": outputs[n] for n in range(1, 5)}
        logs.append(find_identity(outputs[0], references, brand=BRAND).log10_p_paired)
    for level in (0.01, 0.05, 0.1):
        share = np.mean(np.array(logs) <= math.log10(level))
        assert share <= level + 3 * math.sqrt(level / 250)


@pytest.mark.parametrize(
    ("references", "rule"), [({}, "at least one model"), ({"r": []}, "does not name the brand")]
)
def test_references_that_cannot_be(references, rule):
    """None at all, and one that was never asked."""
    with pytest.raises(InvalidInputError, match=rule):
        find_identity(asked(1, 2), references, brand=BRAND)


def test_a_brand_without_names_is_refused():
    """Two letters would be found everywhere."""
    with pytest.raises(InvalidInputError, match="3 letters"):
        Brand(("AI",))
    with pytest.raises(InvalidInputError, match="at least one"):
        Brand(())
