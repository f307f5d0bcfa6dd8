"""Mark files: one line of configuration opens the mark that an engine embeds."""

import json

import pytest

from stillwatch.errors import ConfigError
from stillwatch.trace.marks.green import as_mark
from stillwatch.trace.marks.gumbel import gumbel_mark
from stillwatch.trace.marks.kgw import TransformersGreenMark
from stillwatch.trace.marks.markfile import open_mark, read_mark_file
from stillwatch.trace.marks.synthid import SynthIdMark
from stillwatch.trace.marks.tournament import tournament_mark
from stillwatch.trace.marks.vllm import VllmGreenMark, VllmGumbelMark
from stillwatch.trace.watermark import campaign_mark

SECRET = "00112233445566778899aabbccddeeff"
KEY = bytes.fromhex(SECRET)


def opened(folder, text, *, toml=False, **options):
    """Write a mark file and open it."""
    path = folder / ("mark.toml" if toml else "mark.json")
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return open_mark(path, **options)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"scheme": "gumbel", "key": SECRET, "context_width": 2},
            gumbel_mark(KEY, context_width=2),
        ),
        ({"scheme": "tournament", "key": SECRET, "depth": 8}, tournament_mark(KEY, depth=8)),
        (
            {"hashing_key": 5, "seeding_scheme": "selfhash", "context_width": 3, "bias": 1.0,
             "greenlist_ratio": 0.5, "vocab_size": 90},
            TransformersGreenMark(5, 90, "selfhash", 3, 0.5, 1.0),
        ),
        (
            {"ngram_len": 4, "keys": [1, 2], "context_history_size": 9, "sampling_table_seed": 3,
             "sampling_table_size": 64, "skip_first_ngram_calls": False, "debug_mode": False},
            SynthIdMark((1, 2), 4, 64, 3),
        ),
        ({"algorithm": "gumbel", "key": 42}, VllmGumbelMark(42)),
        ({"algorithm": "dual_key_gumbel", "key": 42, "alpha": 0.2}, VllmGumbelMark(42, 4, 0.2)),
        ({"algorithm": "sbw", "key": 7}, VllmGreenMark(7, "selfhash", 4)),
        (
            {"algorithm": "sbw", "key": 7, "sbw_scheme": "lefthash", "sbw_gamma": 0.25},
            VllmGreenMark(7, "lefthash", 1, 0.25),
        ),
        (
            {"algorithm": "red_green", "key": 7, "deduplicate_contexts": "all"},
            VllmGreenMark(7, "philox", 4, 0.25),
        ),
    ],
)  # fmt: skip
def test_every_scheme_opens(tmp_path, settings, expected):
    """The house's schemes and each engine's own configuration open the mark that they describe."""
    assert expected == opened(tmp_path, settings)


def test_house_campaigns(tmp_path):
    """A master key opens the campaigns of `campaign_mark`; TOML says the same as JSON."""
    path = tmp_path / "mark.toml"
    path.write_text(f'scheme = "green"\nmaster_key = "{SECRET}"\n')
    assert as_mark(campaign_mark(KEY, "c-1")) == read_mark_file(path).campaign("c-1")
    path.write_text(f'scheme = "green"\nkey = "{SECRET}"\n')
    with pytest.raises(ConfigError, match="holds one key and no master key"):
        read_mark_file(path).campaign("c-1")


def test_transformers_configuration_and_its_vocabulary(tmp_path):
    """`to_dict` of the installed class opens as it is, the vocabulary given beside it."""
    transformers = pytest.importorskip("transformers")
    configured = transformers.WatermarkingConfig(hashing_key=99, context_width=2)
    mark = opened(tmp_path, configured.to_dict(), vocab_size=500)
    assert TransformersGreenMark(99, 500, "lefthash", 2) == mark
    synthid = transformers.SynthIDTextWatermarkingConfig(ngram_len=5, keys=[3, 1, 4])
    assert SynthIdMark((3, 1, 4)) == opened(tmp_path, synthid.to_dict())


def test_keys_from_the_environment(tmp_path, monkeypatch):
    """`key_env` names the variable that holds the key."""
    monkeypatch.setenv("MARK_KEY", "42")
    assert VllmGumbelMark(42) == opened(tmp_path, {"algorithm": "gumbel", "key_env": "MARK_KEY"})
    monkeypatch.setenv("MARK_KEY", "1,2")
    assert SynthIdMark((1, 2)) == opened(tmp_path, {"ngram_len": 5, "key_env": "MARK_KEY"})
    monkeypatch.setenv("MARK_KEY", SECRET)
    path = tmp_path / "mark.json"
    path.write_text(json.dumps({"scheme": "green", "key_env": "MARK_KEY"}))
    assert as_mark(campaign_mark(KEY, "c")) == read_mark_file(path).campaign("c")
    with pytest.raises(ConfigError, match="MARK_KEY must hold whole numbers"):
        opened(tmp_path, {"algorithm": "gumbel", "key_env": "MARK_KEY"})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("not json " + SECRET, "must be a TOML"),
        ("[1]", "must be a TOML"),
        ({"scheme": "other", "key": SECRET}, "scheme must be one of green, gumbel"),
        ({"key": SECRET}, "scheme must be one of"),
        ({"scheme": "green", "key": SECRET, "colour": 1}, "unknown field `colour`"),
        ({"scheme": "green"}, "either `key` or `master_key`"),
        ({"scheme": "green", "key": SECRET, "master_key": SECRET}, "either `key` or"),
        ({"scheme": "green", "key": SECRET[:6]}, "key must be at least 32 hex digits"),
        ({"scheme": "gumbel", "key": SECRET, "context_width": 0}, "context_width must be at least"),
        ({"hashing_key": 5}, "missing required field `vocab_size`"),
        ({"hashing_key": 0, "vocab_size": 9}, "hashing_key must be in 1"),
        ({"hashing_key": 5, "vocab_size": 9, "context_width": 0}, "context_width must be at least"),
        ({"hashing_key": 5, "vocab_size": 9, "greenlist_ratio": 0.01}, "greenlist_ratio must be"),
        ({"ngram_len": 1, "keys": [1]}, "ngram_len must be at least 2"),
        ({"ngram_len": 5, "keys": []}, "keys must be at least one"),
        ({"ngram_len": 5, "keys": [1], "sampling_table_size": 100}, "must be a power of two"),
        ({"algorithm": "gumbel", "key": 2**64 - 1, "alpha": 2.0, "prf": "aes"}, "Invalid enum"),
        ({"algorithm": "dual_key_gumbel", "key": 1, "alpha": 2.0}, "alpha must be between"),
        ({"algorithm": "sbw", "key": 1, "sbw_gamma": 1.0}, "gamma must be between"),
        ({"algorithm": "gumbel", "key": -1}, "key must be a 64-bit integer"),
    ],
)
def test_broken_files_are_refused_without_the_key(tmp_path, text, sentence):
    """A file that breaks its scheme is refused in one sentence that holds no key."""
    with pytest.raises(ConfigError, match=sentence) as caught:
        opened(tmp_path, text)
    assert SECRET not in str(caught.value)


def test_a_missing_file(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        open_mark(tmp_path / "gone.toml")
