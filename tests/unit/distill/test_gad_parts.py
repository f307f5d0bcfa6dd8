"""The pieces of the on-policy method: samples, advantages, ratio, discriminator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillwatch.distill.game.gad_discriminator import Discriminator
from stillwatch.distill.game.gad_policy import (
    answer_logprobs,
    group_advantages,
    kl_to_reference,
    policy_loss,
)
from stillwatch.distill.game.gad_rollouts import Sampling, asked_of, sample_answers
from stillwatch.distill.training.batches import Row, pad_rows, row_of
from stillwatch.model.huggingface import load_causal


@pytest.fixture
def model(tiny_folder: Callable[..., Path]) -> Any:
    """A tiny causal language model with its folder's own sampling settings spoilt."""
    found = load_causal(tiny_folder(), precision="float32").eval()
    found.generation_config.repetition_penalty = 50.0
    found.generation_config.top_k = 1
    return found


def sampling(**more: Any) -> Sampling:
    """Some sampling, with something changed."""
    plain = {"samples": 2, "temperature": 1.0, "max_new_tokens": 3, "pad_id": 0, "eos_ids": (1,)}
    return Sampling(**{**plain, **more})


def test_the_last_answer_is_what_is_asked_for() -> None:
    """Of a conversation with several assistant turns, only the last one is cut off as answer."""
    targets = np.array([False, True, True, False, False, True, True])
    found = asked_of(Row(np.arange(7), targets))
    assert [0, 1, 2, 3, 4] == found.prompt_ids.tolist()
    assert [5, 6] == np.flatnonzero(found.row.is_answer).tolist()


def test_samples_stand_beside_their_question(model: Any) -> None:
    """Rows come question by question, begin with its prompt, end at an end or at the limit."""
    prompts = [np.array([5, 6, 7]), np.array([8])]
    rows = sample_answers(model, prompts, sampling=sampling(samples=3), seed=0)
    assert 6 == len(rows)
    for found, prompt in zip(rows, [prompts[0]] * 3 + [prompts[1]] * 3, strict=True):
        assert prompt.tolist() == found.token_ids[~found.is_answer].tolist()
        answer = found.token_ids[found.is_answer]
        assert 1 <= len(answer) <= 3
        assert 1 not in answer[:-1]


def test_samples_repeat_from_the_seed_and_leave_the_callers_randomness(model: Any) -> None:
    """Equal seeds give equal samples; the model's mode and settings are as they were."""
    import torch

    prompts = [np.array([5, 6, 7])]
    state = torch.get_rng_state()
    model.train()
    one, two, other = (
        [r.token_ids.tolist() for r in sample_answers(model, prompts, sampling=sampling(), seed=s)]
        for s in (4, 4, 5)
    )
    assert one == two != other
    assert model.training
    assert 1 == model.generation_config.top_k
    assert torch.equal(state, torch.get_rng_state())


def test_samples_follow_the_students_own_distribution(model: Any) -> None:
    """First tokens come as often as the model says, whatever its folder's settings are."""
    import torch

    prompt, n = np.array([5, 6, 7]), 4000
    plan = sampling(samples=n, max_new_tokens=1, temperature=0.5, forbidden=(9,))
    rows = sample_answers(model, [prompt], sampling=plan, seed=0)
    drawn = np.bincount([int(r.token_ids[-1]) for r in rows], minlength=model.vocab_size)
    with torch.no_grad():
        logits = model(torch.from_numpy(prompt)[None]).logits[0, -1] / 0.5
    logits[9] = -torch.inf
    expected = n * logits.softmax(-1).double().numpy()
    assert 0 == drawn[9]
    kept = expected > 0
    statistic = ((drawn - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = kept.sum() - 1
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


def test_log_probabilities_are_the_models(model: Any) -> None:
    """Padding and other rows change nothing; temperature divides the logits."""
    import torch

    rows = [row_of([5, 6, 7, 8], 2), row_of([9, 10], 1)]
    found = answer_logprobs(model, pad_rows(rows, pad_id=0), temperature=2.0)
    expected = []
    for one in rows:
        ids = torch.from_numpy(one.token_ids)
        with torch.no_grad():
            logs = (model(ids[None]).logits[0] / 2).log_softmax(-1)
        expected += [float(logs[i - 1, ids[i]]) for i in np.flatnonzero(one.is_answer)]
    assert expected == pytest.approx(found.detach().tolist(), abs=1e-5)


def test_advantages_are_within_the_question() -> None:
    """A question that all answer well teaches as much as one that all answer badly."""
    rewards = np.array([[1.0, 2.0, 3.0], [101.0, 102.0, 103.0], [5.0, 5.0, 5.0]])
    found = group_advantages(rewards)
    assert np.allclose(found[0], found[1])
    assert [0.0, 0.0, 0.0] == found[2].tolist()
    assert np.allclose([0, 0, 0], found.mean(axis=1))


def test_advantages_by_batch_weigh_opinions() -> None:
    """Scaled by the whole step, a question with a faint opinion teaches little."""
    rewards = np.array([[0.0, 2.0], [0.0, 0.02], [1.0, 1.0]])
    found = group_advantages(rewards, scale="batch")
    assert 100.0 == pytest.approx(found[0, 1] / found[1, 1])
    assert [0.0, 0.0] == found[2].tolist()


def test_the_gradient_is_the_policy_gradient_until_the_ratio_leaves_its_band() -> None:
    """At ratio 1 each token's gradient is minus its advantage; beyond the band it is 0."""
    import torch

    advantages = torch.tensor([2.0, -1.0, 2.0, -1.0])
    new = torch.tensor([0.0, 0.0, 0.5, -0.5], requires_grad=True)
    loss = policy_loss(new, torch.zeros(4), advantages, clip=0.2).sum()
    [gradient] = torch.autograd.grad(loss, new)
    assert [-2.0, 1.0, 0.0, 0.0] == gradient.tolist()


def test_the_divergence_is_unbiased_and_never_negative() -> None:
    """Its mean over the student's own samples is KL(student | reference)."""
    import torch

    student, reference = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.5, 0.1, 0.4])
    each = kl_to_reference(student.log(), reference.log())
    exact = (student * (student / reference).log()).sum()
    assert float(exact) == pytest.approx(float((student * each).sum()), abs=1e-6)
    assert (each >= 0).all()


@pytest.mark.parametrize("score_at", ["last", "mean"])
def test_the_discriminator_learns_what_sets_answers_apart(model: Any, score_at: str) -> None:
    """It begins without an opinion, learns a mark of the teacher, and leaves the student alone."""
    before = [p.clone() for p in model.parameters()]
    judge = Discriminator(model, pad_id=0, precision="float32", score_at=score_at)
    teacher = [row_of([5, q, 20, 21, 1], 2) for q in (30, 31, 32, 33)]
    student = [row_of([5, q, k, 21, 1], 2) for q in (30, 31, 32, 33) for k in (22, 23)]
    assert [0.0] * 4 == judge.scores(teacher).tolist()
    first = judge.learn(teacher, student, rate=1e-2)
    assert np.log(2) == pytest.approx(first)
    losses = [judge.learn(teacher, student, rate=1e-2) for _ in range(30)]
    assert losses[-1] < 0.1
    unseen = judge.scores([row_of([5, 40, 20, 21, 1], 2), row_of([5, 40, 22, 21, 1], 2)])
    assert unseen[0] > unseen[1]
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))


def test_passes_of_the_discriminator_add_up(model: Any) -> None:
    """A step in two forward passes is the step in one."""
    teacher = [row_of([5, q, 20, 1], 2) for q in (30, 31, 32)]
    student = [row_of([5, q, k, 1], 2) for q in (30, 31, 32) for k in (22, 23)]
    found = []
    for n_passes in (1, 2):
        judge = Discriminator(model, pad_id=0, precision="float32")
        for _ in range(3):
            judge.learn(teacher, student, rate=1e-2, n_passes=n_passes)
        found.append(judge.scores([*teacher, *student]))
    assert np.allclose(found[0], found[1], atol=1e-4)
