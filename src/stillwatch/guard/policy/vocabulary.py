"""The closed vocabulary of a policy: every fact that a rule may ask about, and what may be asked.

A fact that is not known is None, never a guess: what a rule does then is its fail mode. Facts of a
request lie in one flat list, each at the place that its word has here, because a look-up by place
is the cheapest that there is.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

Kind = Literal["text", "country", "number", "flag", "set", "shares", "hits"]
#: Facts of one request, each at its word's place; None is not known.
Facts = list[Any]


class Word(NamedTuple):
    """One fact.

    Attributes:
        name: as rules write it.
        kind: what sort of value it has; decides the questions that may be asked.
        about: one line for a reader.
        of_account: True when it is the account's alone, False when the question or the moment
            changes it.
        options: the values that a text or a set may have; () for any.
    """

    name: str
    kind: Kind
    about: str
    of_account: bool = True
    options: tuple[str, ...] = ()


#: What a question can ask for beyond plain text.
CAPABILITIES: Final = (
    "logprobs", "many", "reasoning", "tools", "structured", "stream", "seed",
    "batch", "files", "embeddings", "other_route",
)  # fmt: skip
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_WORDS: Final = (
    Word("account", "text", "the account's id"),
    Word("org", "text", "its organisation"),
    Word("org_country", "country", "where the organisation has its seat"),
    Word("owners", "shares", "who owns the organisation: country -> share (0..1)"),
    Word("billing_country", "country", "country of its bills"),
    Word("phone_country", "country", "country of its telephone number"),
    Word("email_domain", "text", "domain of its e-mail address, in lower case"),
    Word("kyc_level", "number", "0 none, 1 telephone, 2 payment, 3 identity, 4 owners attested"),
    Word("reseller", "text", 'who sold the access; "" when nobody did'),
    Word("reseller_depth", "number", "sellers between you and the user (count); 0 is direct"),
    Word("list_hits", "hits", "hits of your screening: list -> date of the list"),
    Word("plan", "text", "what it pays for"),
    Word("tags", "set", "further facts of the accounts table"),
    Word("account_age_days", "number", "days since the account was opened", of_account=False),
    Word("network_country", "country", "where the client's address lies", of_account=False),
    Word("model", "text", "the model asked for, as the client wrote it", of_account=False),
    Word("model_tier", "text", "its tier, from [tiers]", of_account=False),
    Word("asks", "set", "capabilities asked for", of_account=False, options=CAPABILITIES),
    Word("questions_per_hour", "number", "of the account, with this one", of_account=False),
    Word("questions_per_day", "number", "of the account, with this one", of_account=False),
    Word("output_tokens_per_day", "number", "given out to the account", of_account=False),
    Word("risk", "number", "-log10 of its campaign's p-value; 0 without one", of_account=False),
    Word("in_campaign", "flag", "a verdict names the account", of_account=False),
    Word("campaign", "text", 'the campaign\'s id; "" without one', of_account=False),
    Word("campaign_age_days", "number", "since its first verdict; 0 without", of_account=False),
    Word("verified", "flag", "it was challenged and has shown who it is", of_account=False),
    Word("hour", "number", "hour of the day, UTC (0 to 24)", of_account=False),
    Word("weekday", "text", "day of the week, UTC", of_account=False, options=WEEKDAYS),
)

#: name -> word.
WORDS: Final = {word.name: word for word in _WORDS}
#: name -> its place in the facts of a request.
PLACES: Final = {word.name: place for place, word in enumerate(_WORDS)}
#: Facts of a request of which nothing is known.
NOTHING: Final[tuple[None, ...]] = (None,) * len(_WORDS)

#: What may be asked of each kind.
QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "text": ("is", "is_not", "in", "not_in", "starts_with", "ends_with", "known"),
    "country": ("is", "is_not", "in", "not_in", "known"),
    "number": ("is", "below", "at_most", "above", "at_least", "between", "known"),
    "flag": ("is", "known"),
    "set": ("any", "all", "none", "known"),
    "shares": ("in", "above", "known"),
    "hits": ("any", "within_days", "known"),
}
