"""The analysis plan: everything in it is bound by its digest, nothing is left open."""

import msgspec
import pytest

from stillwatch.errors import ConfigError, InvalidInputError
from stillwatch.trace.preregister import (
    AnalysisPlan,
    PlannedTest,
    check_prompts,
    hash_prompts,
    read_plan,
    write_plan,
)

TESTS = (
    PlannedTest(test="radioactivity-closed", randomisation="key:k1", claim="web-7"),
    PlannedTest(test="radioactivity-open", randomisation="key:k1", claim="web-7"),
    PlannedTest(test="canary", randomisation="canary:c1", claim="web-7", looks=0),
    PlannedTest(test="radioactivity-closed", randomisation="key:k2", claim="web-9"),
)


def plan(**changes):
    """A plan with two suspects and two claims."""
    fields = {"title": "t", "suspects": ("s1", "s2"), "tests": TESTS, **changes}
    return AnalysisPlan(**fields)


def test_plan_counts_its_accusations():
    """Suspects times claims share the error rate."""
    assert (("web-7", "web-9"), 4) == (plan().claims, plan().n_accusations)


def test_digest_binds_every_field():
    """Changing any field changes the digest."""
    changes = {
        "title": "other",
        "suspects": ("s1",),
        "tests": TESTS[:3],
        "prompts_sha256": "00",
        "n_prompts": 3,
        "sampling": {"temperature": 1.0},
        "stopping": "never",
        "proved": 1e-7,
        "strong": 1e-2,
        "correction": "e-bh",
        "hedge": 0.3,
        "commitments": {"key:k1": "00"},
        "tool": "x 1",
    }
    digests = {plan(**{name: value}).digest for name, value in changes.items()}
    assert len(changes) + 1 == len(digests | {plan().digest})


def test_prompts_are_hashed_in_order_and_apart():
    """Another order or another cut of the same text is another hash, and is refused."""
    assert 3 == len({hash_prompts(p) for p in (["a", "b"], ["b", "a"], ["ab"])})
    fixed = plan(prompts_sha256=hash_prompts(["a", "b"]), n_prompts=2)
    check_prompts(fixed, ["a", "b"])
    with pytest.raises(InvalidInputError, match="the prompts' hash must be the plan's"):
        check_prompts(fixed, ["a"])


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_plan_reads_back(suffix, tmp_path):
    """A plan written as JSON, or by hand as TOML, reads back with the same digest."""
    path = tmp_path / f"plan.{suffix}"
    if suffix == "json":
        assert plan().digest == write_plan(plan(), path)
    else:
        tests = "".join(
            f'[[tests]]\ntest = "{t.test}"\nrandomisation = "{t.randomisation}"\n'
            f'claim = "{t.claim}"\nlooks = {t.looks}\n'
            for t in TESTS
        )
        path.write_text(f'title = "t"\nsuspects = ["s1", "s2"]\n{tests}')
    assert plan().digest == read_plan(path).digest


@pytest.mark.parametrize(
    "text", ["{}", "no json", '{"title": "t", "suspects": ["s"], "tests": [], "x": 1}']
)
def test_a_bad_plan_is_named(text, tmp_path):
    """What is no plan is refused with the file's name."""
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"plan\.json: the file must be an analysis plan"):
        read_plan(path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"suspects": ()}, "suspects must be at least one"),
        ({"suspects": ("a", "a")}, "suspects must be all different"),
        ({"tests": ()}, "tests must be at least one"),
        ({"tests": (TESTS[0], msgspec.structs.replace(TESTS[0], looks=2))}, "one for each claim"),
        ({"proved": 1e-2}, "proved must be"),
        ({"hedge": 0.0}, "hedge must be"),
    ],
)
def test_plan_refuses(changes, rule):
    """An open or double entry is refused."""
    with pytest.raises(InvalidInputError, match=rule):
        plan(**changes)


def test_a_planned_test_rests_on_a_draw():
    """Similarity cannot be planned as evidence."""
    with pytest.raises(InvalidInputError, match="randomisation must be one of"):
        PlannedTest(test="lineage", randomisation="samples:1")
    with pytest.raises(InvalidInputError, match="looks must be"):
        PlannedTest(test="canary", randomisation="canary:1", looks=-1)
