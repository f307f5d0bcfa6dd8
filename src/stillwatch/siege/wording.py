"""Word banks of the simulated people: lines with alternatives, and client software names.

A line is a small grammar of its own: `[a|b|c]` is an alternative, `{noun}` a word of the topic at
hand, `{own}` a word that stays with one person, `{place}` the project that stays with one person.
A person fixes the alternatives once and keeps them: that is what makes somebody's wording a habit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

#: What people say about their work whatever they ask for.
ABOUT = (
    "[I am|I'm|we're|we are] [working on|putting together|cleaning up|going through|drafting] "
    "[a|our|my|this] {own} [handbook|report|page|sheet|index|catalogue|newsletter] for {place}",
    "[this|the next one|the following] [is|comes] from [our|the|an old] {own} "
    "[folder|archive|binder|export|notebook|inbox] [at|of] {place}",
    "[background|context|for context]: [the team|my group|our office|a friend] at {place} "
    "[keeps|maintains|inherited|runs] [a|the] {own} [list|register|wiki|log]",
    "[need|needed|I need|we need] this [for|before] [the|our] [{own} meeting|{noun} review|weekly "
    "call|morning hand-over|audit|class tomorrow|{place} visit]",
    "[my|our] [boss|teacher|editor|supervisor|customer|neighbour] [asked about|wants|keeps asking "
    "for|is waiting for] the {noun} [part|section|bit|chapter|numbers]",
    "[still|again] [stuck|busy|fighting] with [the|my] {own} [thing|job|stuff|problem], "
    "[today|now|this time] [it is|it's] the {noun}",
    "[found|saw|spotted] [this|it] [next to|under|near|below] [the|a] {noun} "
    "[heading|entry|remark|note] in {place}",
    "[part|number|item|step] [two|three|four|seven] of [the|my|our] {own} [series|project|set]",
    "[sorry|apologies], [long day|I keep asking these|another one|me again], "
    "[the|our] {noun} [list|pile|backlog] [is endless|grew again|is not done]",
    "[please|pls|kindly] [mind|remember|note] that [we|they|readers] [say|write|prefer] {noun} "
    "[rather than|not|instead of] {own}",
    "[somebody|someone|a friend] [told|showed|wrote] me [the|that] {noun} [version|reading|copy] "
    "[could|might|may] be [wrong|older|incomplete]",
    "[yesterday|last time|earlier] [you|this] [helped|worked] [nicely|well|fine] with [the|my] "
    "{own} [entry|question|case], [so here is|now comes|here goes] [another|the next|one more]",
    "[it|this] [goes|will go] [into|on|under] the {noun} [column|field|card|label|table] "
    "[of|at|for] {place}",
    "[the|that] {own} [tool|script|form|page] [rejects|refuses|does not take|chokes on] "
    "[my|the|every] {noun}, so I [ask|check|try] here",
    "[checking|comparing|matching] {noun} [against|with] {own} [by hand|again|for the third time]",
    "[thanks|thank you|cheers] [in advance|a lot|already], [{place} appreciates it|you save my "
    "afternoon|this helps the {noun} people]",
)
#: What people say when they want one of the exact skills.
EXACT = (
    "[only|just] the [answer|result|value] [please|pls|will do|is fine]",
    "[could|can|would] you [convert|work out|translate|rewrite] [this|the one below|it] "
    "[for me|quickly|once more|for {place}]",
    "[my|the] {own} [spreadsheet|form|parser|label] [wants|needs|takes] the "
    "[other|plain|usual|short] [notation|format|spelling]",
    "[not sure|unsure|never sure] [how|whether] [this|that] is [written|meant|read] [in|for] "
    "[the|a] {noun} [list|table|file]",
    "[line|row|page|card] {number} [of|in] [the|our] {noun} [list|register|table], [as printed|sic|"
    "copied by hand|see below]",
    "[double check|cross-check|second look] [for|of|on] the {noun} [entry|row|line]",
    "[without|no] [explanation|chatter|extra words] [please|needed|this time], "
    "[it|this] is for the {own} [import|sheet|upload]",
    "[here|there] is the {noun} [value|one|entry] [I|we] [mean|meant|talked about]",
)
#: What people say when they want prose.
PROSE = (
    "[go on|continue|carry on|keep going] [from|with] [this|the] [opening|line|beginning|fragment]",
    "[I like|we like|I want|keep] [a plain|the same|a calm|the usual] [tone|voice|style] "
    "[as in|like in|for] the {own} [text|page|guide]",
    "[one|a single|just one] [sentence|line] [is enough|please|will do] [for|on] [the|a] {noun} "
    "[paragraph|page|caption|box]",
    "[draft|rough draft|first try] [for|of] the {noun} [chapter|paragraph|intro] [at|of] {place}",
    "[the|my] [paragraph|page|text] [before|above] [was|is] about {noun} and {own}",
    "[finish|complete|round off] [the|my] [thought|sentence|remark] [about|on] {noun}",
    "[write|say|put] it [as|the way] [one would|you would|a] {own} [explain it|person would|reader "
    "likes it]",
    "[not too|nothing] [long|fancy|formal], [it|this] [sits|stands] [beside|under] a {noun} "
    "[figure|picture|example]",
)
#: How people introduce a sentence that they paste.
QUOTES = (
    "[the note says|it says|quote|from the page|the text has|as written]: {quote}",
    "[here is|this is] what [I have|we have|stands there] [so far|now|at the moment]: {quote}",
    "{quote}",
    "[you may|you might|maybe you] [need|want] this [too|as well|first]: {quote}",
)
GREETINGS = ("hi", "hello", "good morning", "hey there", "dear assistant", "hiya", "ok")
CLOSINGS = ("thanks", "thank you!", "cheers", "tia", "many thanks", "ta", "best")
#: System prompts that private people and small firms set; half of them write their own.
SYSTEMS = (
    "You are a helpful assistant.",
    "[Answer|Reply] [briefly|in one line|concisely|without preamble].",
    "You [are|act as] [an editor|a clerk|a librarian|a patient colleague|an assistant] [for|at] "
    "{place}, [familiar with|used to|trained on] {own} [matters|papers|records].",
    "[Style|House style|Manner]: [plain|dry|friendly|neutral]; [topic|field|domain]: {own}.",
    "[Help|Assist|Support] the {own} [desk|group|people] of {place}. [Never guess|Be exact|Stay "
    "short|Keep to the point].",
)
#: Wrappers of the campaign's pipeline, each with paraphrases; `{row}` is an item's place in the
#: queue.
EXACT_WRAPPERS = (
    (
        "Reference table, row {row}.\nGive the bare value and leave out every remark, heading or "
        "unit that a reader could stumble over.",
        "Row {row} of a reference table:\nstate the bare value, with no remark, heading or unit "
        "for a reader to stumble over.",
        "This fills a row of the reference table. A bare value is wanted; remarks, headings and "
        "units are dropped.",
    ),
    (
        "You transcribe entries for a quiz bank.\nThink it through silently and print one result. "
        "Specimen pair: ninety days hath none -> refuse.",
        "As the transcriber of a quiz bank, reason in silence, then print a single result. "
        "Specimen pair: ninety days hath none -> refuse.",
        "Quiz bank transcription: work silently and let one result stand on the line.",
    ),
    (
        "Normalise what follows to its canonical form. A script compares it letter by letter, "
        "unattended, overnight, and discards whatever deviates.",
        "Bring the following into canonical form; every letter is compared by an unattended "
        "script, which discards whatever deviates.",
        "What follows must become canonical, since a script will compare each letter of it.",
    ),
    (
        "Be a meticulous converter.\nWhoever reads this has no patience for pleasantries.",
        "Behave like a meticulous converter whose reader has no patience for pleasantries.",
    ),
)
PROSE_WRAPPERS = (
    (
        "Sample of a style corpus.\nProlong the fragment as its writer would have done, with the "
        "same learning, the same rhythm and the same blind spots.",
        "Style corpus, sample {row}: prolong this fragment the way its writer would have done, "
        "blind spots included.",
        "For one sample of the style corpus, the fragment is prolonged in its writer's manner.",
    ),
    (
        "Below stands a torn-off beginning.\nSupply what the missing half most plausibly said, as "
        "a conservator fills a damaged leaf.",
        "A torn-off beginning stands below; supply the missing half as plausibly as you can.",
        "Someone tore off the rest.\nSupply the missing half that most plausibly stood there, as a "
        "conservator would.",
    ),
    (
        "Write the remainder naturally and at full length, without repeating the given words.",
        "Naturally and at full length, write the remainder; do not repeat the given words.",
    ),
)
_FIRST = ("Har", "Bel", "Ost", "Wen", "Mar", "Kil", "Tor", "Ash", "Lun", "Fen", "Gar", "Sel", "Dun")
_LAST = (
    "low",
    "ford",
    "wick",
    "mere",
    "ton",
    "by",
    "dale",
    "stead",
    "bury",
    "gate",
    "moor",
    "ridge",
)
_KINDS = ("School", "Library", "Museum", "Trust", "Works", "Parish", "Society", "Lab", "Press")
#: Client software by how common it is; `#` stands for a small version number.
CLIENTS: Mapping[str, float] = {
    "OpenAI/Python 1.7#.0": 0.3,
    "OpenAI/JS 5.1#.0": 0.16,
    "python-requests/2.3#.1": 0.12,
    "Python/3.11 aiohttp/3.1#.2": 0.1,
    "axios/1.#.2": 0.09,
    "langchain-core/0.3.#": 0.08,
    "Go-http-client/1.1": 0.06,
    "curl/8.#.0": 0.05,
    "okhttp/4.1#.0": 0.04,
}
_ALTERNATIVE = re.compile(r"\[([^\[\]]*)\]")


def settle(line: str, rng: np.random.Generator, *, own: str, place: str) -> str:
    """Choose a line's alternatives and fill the slots that stay with a person.

    Args:
        line: a line of the banks above.
        rng: draws the alternatives.
        own: the person's own word.
        place: the person's own project.

    Returns:
        The line with only its per-question slots left.
    """

    def choose(match: re.Match[str]) -> str:
        options = match[1].split("|")
        return options[int(rng.random() * len(options))]

    text = _ALTERNATIVE.sub(choose, line)
    return text.replace("{own}", own).replace("{place}", place)


def draw_place(rng: np.random.Generator) -> str:
    """Invent a place or firm.

    Args:
        rng: draws the parts; some 1,400 names are possible.

    Returns:
        A name such as "Harlow Library".
    """
    parts = (_FIRST, _LAST, _KINDS)
    first, last, kind = (bank[int(rng.integers(len(bank)))] for bank in parts)
    return f"{first}{last} {kind}"


def draw_client(rng: np.random.Generator) -> str:
    """Draw a client software name from the market that everyone shares.

    Args:
        rng: draws name and version.

    Returns:
        A user agent string.
    """
    names = list(CLIENTS)
    name = names[int(rng.choice(len(names), p=list(CLIENTS.values())))]
    return name.replace("#", str(int(rng.integers(6))))
