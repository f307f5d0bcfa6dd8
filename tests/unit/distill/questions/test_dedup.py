"""What is alike is found, what is not stays, and no chain pulls a question out."""

from collections.abc import Sequence

import numpy as np
import pytest

from stillwatch.distill.questions.dedup import NearIndex, NearRows, band_rows, expected_recall
from stillwatch.distill.questions.fingerprints import word_hashes
from stillwatch.text.tokens import hash_rows, shingle


def _set(text: str) -> frozenset[int]:
    return frozenset(shingle(word_hashes([text]), width=2).values.tolist())


def _by_all_pairs(texts: Sequence[str], threshold: float) -> list[bool]:
    """The definition: compare with every earlier text that stays."""
    kept: list[frozenset[int]] = []
    found = []
    for text in texts:
        mine = _set(text)
        alike = any(len(mine & other) / len(mine | other) >= threshold for other in kept)
        found.append(not alike)
        if not alike:
            kept.append(mine)
    return found


def _texts(n: int, seed: int = 0) -> list[str]:
    """Random questions, a third of them slightly changed copies of earlier ones."""
    rng = np.random.Generator(np.random.PCG64(seed))
    words = [f"word{n}" for n in range(300)]
    texts: list[str] = []
    for _ in range(n):
        if texts and rng.random() < 0.35:
            copied = texts[int(rng.integers(len(texts)))].split()
            for _ in range(int(rng.integers(0, 6))):
                copied[int(rng.integers(len(copied)))] = words[int(rng.integers(300))]
            texts.append(" ".join(copied))
        else:
            texts.append(" ".join(rng.choice(words, int(rng.integers(12, 40)))))
    return texts


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_both_indexes_find_what_comparing_all_pairs_finds(threshold: float) -> None:
    """One by one or as a pool, the same questions stay, but for what chance may hide."""
    texts = _texts(300)
    wanted = np.array(_by_all_pairs(texts, threshold))
    index = NearIndex(threshold)
    one_by_one = np.array(index.add(texts[:100]) + index.add(texts[100:]))
    rows = NearRows(threshold)
    rows.add(texts[:250])
    rows.add(texts[250:])
    as_pool = ~rows.left_out(np.zeros(len(texts), dtype=bool))
    assert one_by_one.tolist() == as_pool.tolist()
    # Nothing unlike is ever left out; of what is alike the bands may miss one in a hundred.
    assert not (wanted & ~as_pool).sum() > 1
    assert (~wanted & as_pool).sum() <= 0.01 * (~wanted).sum() + 1


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_let_a_pair_at_the_threshold_meet(threshold: float) -> None:
    """The chance to be compared is 99 % at the threshold, and falls below it."""
    assert expected_recall(threshold, threshold) >= 0.99 or band_rows(threshold) == 1
    assert expected_recall(threshold, threshold / 2) < expected_recall(threshold, threshold)


def test_rows_that_are_out_already_are_compared_with_nothing() -> None:
    """A question left out for another reason takes no other with it."""
    rows = NearRows(0.8)
    rows.add(["the same long question about cats and dogs"] * 2)
    assert [False, True] == rows.left_out(np.zeros(2, dtype=bool)).tolist()
    assert [False, False] == rows.left_out(np.array([True, False])).tolist()


def test_no_chains() -> None:
    """What is alike only to a question that was left out stays."""
    texts = ["a b c d e f g h i j", "a b c d e f g h x y", "a b c d e f z w x y"]
    assert [True, False, True] == NearIndex(0.6).add(texts)


def test_short_and_empty_texts() -> None:
    """One word is a set of its own; no word at all is never alike."""
    assert [True, False, True, True, True] == NearIndex(0.7).add(["Hi!", "hi", "bye", "?", ""])


def test_symbols_are_words_and_punctuation_is_not() -> None:
    """Sums that differ in a sign differ; case, spaces, commas and quotes do not count."""
    different = ["3 + 4 =", "3 - 4 =", "(3 + 4) =", "3 + 41 =", "x_1", "x1"]
    assert len(different) == len(set(hash_rows(word_hashes(different)).tolist()))
    same = ['Who said "no", Ann?', "who said  no ann", "Who said “no”, Ann?"]
    assert 1 == len(set(hash_rows(word_hashes(same)).tolist()))


def test_scripts_without_spaces_are_cut_into_letters() -> None:
    """Two Chinese questions that share most of their letters are alike."""
    one, other = "北京是中国的首都吗请回答", "北京是中国的首都吗请告诉"
    assert 12 == len(word_hashes([one]).values)
    assert [True, False] == NearIndex(0.6).add([one, other])


def test_full_width_and_composed_forms_are_equal() -> None:
    """Unicode's ways to write the same text are one."""
    forms = ["Caf\u00e9 \uff12+\uff12", "Cafe\u0301 2+2", "CAFÉ 2+2"]
    assert 1 == len(set(hash_rows(word_hashes(forms)).tolist()))


def test_many_texts_are_hashed_like_one_by_one() -> None:
    """Cutting the work into pieces changes nothing."""
    texts = [*_texts(100), "x" * 200_000, "", "Ünïcode — " * 4000]
    together = word_hashes(texts)
    for n, text in enumerate(texts):
        row = together.values[together.offsets[n] : together.offsets[n + 1]]
        assert word_hashes([text]).values.tolist() == row.tolist()
