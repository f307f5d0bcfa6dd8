"""What makes a wording one's own: words taken for others, and clauses that are added."""

from __future__ import annotations

import re

#: Words of the forms that have others of the same meaning.
SYNONYMS: dict[str, tuple[str, ...]] = {
    key: tuple(values.split("/"))
    for key, values in (
        pair.split(":")
        for pair in re.findall(
            r"\w+:[\w /'-]+?(?=,|$)",
            "write:put/set down/compose/produce/draft,give:offer/hand over/supply/present/deliver,"
            "keep:hold/leave/preserve,show:display/reveal/present,"
            "explain:clarify/spell out/make clear/unfold,state:say/declare/mention/note,"
            "every:each/any/every single,each:every/any,all:all of/the entire/the full,"
            "before:prior to/ahead of/in advance of,after:following/once past/behind,"
            "answer:respond/reply/react/speak,reply:response/message/return,"
            "reader:audience/recipient/person reading,problem:exercise/case/matter/riddle,"
            "task:assignment/duty/job/mission,question:query/request/prompt/inquiry,"
            "step:stage/move/phase/piece,steps:stages/moves/phases/pieces,"
            "must:has to/needs to/ought to/shall,should:ought to/had better/is meant to,"
            "never:at no time/under no circumstances/not ever,always:at all times/in every case,"
            "clear:plain/lucid/easy to follow,careful:cautious/watchful/attentive,"
            "complete:full/whole/entire/unabridged,short:brief/compact/terse,long:lengthy/extended,"
            "brief:short/terse/compact,friendly:kind/warm/cordial,polite:courteous/civil/gracious,"
            "mistakes:slips/errors/faults/blunders,errors:slips/mistakes/faults,"
            "facts:data/details/truths,sources:references/origins/citations,numbers:figures/values,"
            "work:labour/act/operate/perform,help:support/aid/assist,needed:required/called for,"
            "different:separate/unlike/varied,solutions:ways out/attempts/answers,"
            "last:closing/very last/bottom,line:row/line of text,text:passage/wording/copy,"
            "words:terms/expressions,sentence:line/phrase,sentences:lines/phrases/statements,"
            "lines:rows/strings,paragraphs:sections/blocks,points:items/remarks/entries,"
            "output:result text/returned text/material,everything:the lot/all of it/the whole,"
            "end:finish/close/stop,begin:start/set out/open,start:begin/set out/open,"
            "known:recognised/noted/famed,background:training/history/schooling,"
            "person:human/individual/man or woman,"
            "people:staff/folks/members,users:clients/visitors/members,company:business/firm/house,"
            "service:product/offer/tool,team:group/crew/unit,"
            "grade:mark/score/rank,score:mark/grade/rate,judge:weigh/assess/appraise,"
            "criteria:standards/yardsticks/tests,good:sound/solid/decent,right:correct/proper/sound,"
            "wrong:off/faulty/incorrect,sure:certain/confident/convinced,plan:outline/scheme/sketch,"
            "detail:particulars/specifics/nuance,idea:notion/concept/thought,deep:far/thorough/low,"
            "principle:rule/law/mechanism,and:and/as well as/plus,"
            "here:here/in this place/at this desk,"
            "only:solely/just/nothing but,"
            "with:along with/by means of,"
            "your:your own,"
            "this:the present,be:remain/stay",
        )
    )
}
#: Clauses that many authors add to a sentence; the slots are their own.
TAILS: tuple[str, ...] = (
    "when {thing} is concerned", "as far as {thing} goes", "because {reader} relies on {thing}",
    "the way the {thing} page of {firm} does", "unless {thing} says otherwise",
    "for the sake of {thing}", "even if {thing} gets in the way", "with {thing} in view",
    "since {firm} sells {thing}", "much as for {thing} in {field}", "apart from {thing}",
    "above all for {thing}", "be it {thing} or {other}", "from {thing} down to {other}",
    "whether {thing} or {other} is meant", "and treat {thing} like {other}",
    "as our {thing} desk learned with {other}", "before {thing} meets {other}",
)  # fmt: skip
#: Words that authors strew in.
FILLERS: tuple[str, ...] = tuple(
    re.findall(
        r"\w+",
        "always simply really usually normally ideally generally preferably clearly actively truly "
        "consistently directly explicitly fully genuinely honestly indeed instead just kindly "
        "largely likewise mainly merely mostly naturally neatly obviously openly overall partly "
        "patiently plainly please possibly practically precisely primarily promptly properly "
        "purely quickly quietly rather readily reliably repeatedly safely seriously sensibly "
        "separately silently sincerely slowly smoothly sometimes specifically still strictly "
        "surely swiftly then thereby therefore thoughtfully tightly together typically ultimately "
        "visibly well wherever whenever wholly willingly wisely accordingly afterwards again "
        "altogether anyway basically briefly calmly carefully certainly cleanly closely commonly "
        "correctly deliberately diligently entirely especially essentially eventually exactly",
    )
)
_KINDS = re.findall(
    r"[\w-]+",
    "winter spare daily rented northern shared paper digital second-hand local foreign seasonal "
    "private annual custom legacy mobile printed weekly kitchen harbour garden night metal rural "
    "medical outdoor junior historic open frozen wooden urban portable solar coastal hourly joint",
)
_THINGS = re.findall(
    r"\w+",
    "tickets invoices recipes contracts parcels lessons sensors claims menus permits returns "
    "schedules manuals reviews surveys bookings exams drawings repairs leases ledgers archives "
    "quotas tenders samples vouchers routes shifts labels budgets minutes patents grants orders "
    "playlists forecasts catalogues transcripts refunds backups dashboards receipts cases memos",
)
#: What an application is about, two words: the banks multiply.
THINGS: tuple[str, ...] = tuple(f"{kind} {thing}" for kind in _KINDS for thing in _THINGS)
