"""A copier's rule-based rewriting of answers before training: other words, other order."""

from __future__ import annotations

import re

import numpy as np

#: Word -> another that stands for it in this prose; both ways.
_PAIRS = (
    "return give,returns gives,object thing,method routine,function procedure,default standard,"
    "argument parameter,arguments parameters,value result,used applied,use apply,set put,"
    "called invoked,specified given,string text,list sequence,name label,file document,"
    "number count,raise cause,raised caused,if when,may can,must should,all every,any some,"
    "will shall,only just,same equal,new fresh,a one,the this,is becomes,are become,"
    "and plus,or else,not never,for towards,with using,which that,other further,first initial,"
    "class kind,type sort,error fault,current present,data content,exception failure"
)
_OTHER = {
    word: twin
    for pair in _PAIRS.split(",")
    for word, twin in (pair.split(), reversed(pair.split()))
}
_WORD = re.compile(r"[A-Za-z]+")
_CLAUSE = re.compile(r"([^,;:.!?]+), ([^,;:.!?]+)([.;:!?]|$)")


def rewrite(answer: str, *, rng: np.random.Generator, strength: float = 0.7) -> str:
    """Rewrite an answer by rules: exchange words, swap clauses at a comma.

    Args:
        answer: the text.
        rng: draws what is exchanged.
        strength: chance that a word with a twin is exchanged, 0..1.

    Returns:
        The rewritten text.
    """

    def exchange(match: re.Match[str]) -> str:
        word = match[0]
        twin = _OTHER.get(word.lower())
        if twin is None or rng.random() >= strength:
            return word
        return twin.capitalize() if word[0].isupper() else twin

    swapped = _CLAUSE.sub(
        lambda m: f"{m[2]}, {m[1]}{m[3]}" if rng.random() < strength else m[0], answer
    )
    return _WORD.sub(exchange, swapped)
