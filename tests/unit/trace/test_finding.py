"""A finding carries a p-value only with the draw that makes it one."""

import msgspec
import pytest

from stillwatch.errors import InvalidInputError
from stillwatch.trace.verdicts.finding import Finding


def test_finding_travels_as_json():
    """A finding written as JSON reads back the same."""
    found = Finding(
        test="canary",
        statistic=31.0,
        p_value=1e-9,
        log10_p=-9.0,
        e_log10=7.1,
        randomisation="canary:a1",
        n=100,
        needed=79,
        notes=("one",),
        details={"matches": 31},
    )
    assert found == msgspec.json.decode(msgspec.json.encode(found), type=Finding)
    assert "canary" == found.kind
    assert not found.is_similarity


def test_similarity_has_a_rank_and_no_p_value():
    """Without a draw of ours a rank is all that may be said."""
    found = Finding(test="lineage", statistic=0.4, rank=(0, 19))
    assert found.is_similarity
    assert "similarity" == found.kind
    with pytest.raises(InvalidInputError, match="randomisation must be named"):
        Finding(test="lineage", statistic=0.4, p_value=0.05, log10_p=-1.30103)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"test": ""}, "test must be the name"),
        ({"n": -1}, "n must be at least 0"),
        ({"randomisation": "dice:1"}, "randomisation must be one of"),
        ({"randomisation": "key:"}, "randomisation must be one of"),
        ({"p_value": 0.1}, "log10_p must be given"),
        ({"p_value": 1.5, "log10_p": 0.0}, "p_value must be between"),
        ({"p_value": 0.1, "log10_p": 0.3}, "log10_p must be finite and at most 0"),
        ({"p_value": 0.1, "log10_p": -3.0}, "the logarithm of p_value"),
        ({"e_log10": float("nan")}, "e_log10 must be"),
        ({"rank": (3, 2)}, "rank must be"),
    ],
)
def test_finding_refuses(changes, rule):
    """A number out of range is refused, naming the field."""
    fields = {"test": "t", "statistic": 1.0, "randomisation": "key:1", **changes}
    with pytest.raises(InvalidInputError, match=rule):
        Finding(**fields)


def test_a_p_value_below_a_double_is_kept():
    """Where the double ends the logarithm goes on."""
    found = Finding(test="t", statistic=1, p_value=0.0, log10_p=-812.5, randomisation="key:1")
    assert -812.5 == found.log10_p
