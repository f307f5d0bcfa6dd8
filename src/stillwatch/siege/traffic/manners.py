"""How people open and close what they write: banks of columns, one entry of each is drawn."""

from __future__ import annotations

OPENINGS: tuple[tuple[str, ...], ...] = (
    ("", "hi", "hello", "hey", "good morning", "hi there", "ok", "so", "thanks", "sorry", "dear AI",
     "quick one", "me again", "right", "well", "evening"),
    ("", ",", "!", "...", "-", ":"),
    ("", "please", "could you", "can you help:", "I need this", "I was wondering", "help me with",
     "for my job", "for school", "my son asks", "my boss asks", "a friend wants to know", "tell me",
     "question", "another question", "I am stuck", "no rush", "urgent", "not sure if you know",
     "we were talking about this", "one more thing", "still the same topic", "new subject"),
    ("", "", "", ":", "-", "today", "again", "this time", "if possible", "in short"),
)  # fmt: skip
CLOSINGS: tuple[tuple[str, ...], ...] = (
    ("", "thanks", "thank you", "cheers", "please", "pls", "any ideas?", "what do you think?",
     "keep it simple", "be brief", "explain it well", "with an example", "in a table",
     "as a list", "no jargon", "I am new to this", "it is for tomorrow", "just the main points"),
    ("", "!", ".", "so much", "in advance", ":)", "if you can", "and sorry for the typos",
     "I really need it", "as last time", "like before", "appreciate it"),
)  # fmt: skip
#: Names that people write about.
NAMES: tuple[str, ...] = (
    "Alvarez", "Bergen", "Cho", "Dimitri", "Elif", "Fatima", "Gomez", "Hanna", "Ivanov",
    "Jonas", "Kofi", "Larsen", "Mehta", "Nadia", "Okoro", "Priya", "Quentin", "Rosa", "Sato",
    "Tamar", "Ulrich", "Vera", "Wojcik", "Ximena", "Yusuf", "Zoe", "Antwerp", "Bristol",
    "Cusco", "Dakar", "Edirne", "Fresno", "Genoa", "Hobart", "Izmir", "Jaipur", "Kyoto",
    "Leipzig", "Malaga", "Nantes", "Odense", "Porto", "Quito", "Riga", "Sofia", "Turin",
    "Utrecht", "Varna", "Windhoek", "York", "Zagreb", "Acme", "Borealis", "Cobalt", "Dynamo",
    "Ember", "Falcon", "Gizmo", "Helix", "Iris", "Jigsaw", "Krypton", "Lotus", "Mango",
    "Nimbus", "Orbit", "Pixel", "Quartz", "Raven", "Sierra", "Tango", "Umbra", "Vortex",
)  # fmt: skip
#: Small words of other languages, for people who change theirs: English word -> the other's.
TONGUES: tuple[dict[str, str], ...] = tuple(
    dict(pair.split(":") for pair in words.split())
    for words in (
        "the:el a:un an:un is:es are:son of:de to:a in:en for:para with:con without:sin and:y or:o "
        "how:como what:que when:cuando where:donde who:quien why:porque this:este that:ese my:mi "
        "your:tu i:yo you:usted it:lo we:nosotros can:puedo do:hacer not:no on:sobre from:desde "
        "write:escribe give:dame make:haz find:busca please:favor need:necesito want:quiero me:me",
        "the:der a:ein an:ein is:ist are:sind of:von to:zu in:in for:fuer with:mit without:ohne "
        "and:und or:oder how:wie what:was when:wann where:wo who:wer why:warum this:dies that:das "
        "my:mein your:dein i:ich you:du it:es we:wir can:kann do:tun not:nicht on:auf from:aus "
        "write:schreibe give:gib make:mache find:finde please:bitte need:brauche want:will me:mir",
        "the:le a:un an:un is:est are:sont of:de to:a in:dans for:pour with:avec without:sans "
        "and:et or:ou how:comment what:quoi when:quand where:ou who:qui why:pourquoi this:ce "
        "that:cela my:mon your:ton i:je you:vous it:il we:nous can:peux do:faire not:pas on:sur "
        "from:depuis write:ecris give:donne make:fais find:trouve please:svp need:besoin me:moi",
    )
)
