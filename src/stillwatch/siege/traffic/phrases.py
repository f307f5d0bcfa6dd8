"""Word banks of the instructions; `[a|b]` is an alternative, `{slot}` a word drawn once."""

from __future__ import annotations

#: Words that an instruction keeps however it is said.
SLOTS: dict[str, tuple[str, ...]] = {
    "who": (
        "tutor", "engineer", "analyst", "reviewer", "editor", "consultant", "researcher", "solver",
        "teacher", "programmer", "examiner", "planner", "architect", "scientist", "mentor",
        "librarian", "strategist", "translator", "technician", "advisor", "coach", "writer",
    ),
    "adjective": (
        "careful", "meticulous", "patient", "thorough", "seasoned", "experienced", "methodical",
        "rigorous", "practical", "precise", "thoughtful", "senior", "attentive", "disciplined",
    ),
    "field": (
        "mathematics", "software", "data analysis", "logic puzzles", "operations", "support",
        "logistics", "finance", "science", "writing", "web automation", "tool use", "databases",
        "education", "everyday problems", "retail", "research", "technical questions", "law",
        "health information", "travel", "hardware", "product design", "statistics", "languages",
    ),
    "reader": (
        "a beginner", "a student", "a colleague", "a customer", "an expert reader", "a new hire",
        "a busy manager", "a curious reader", "a junior developer", "a general audience",
        "a teammate", "someone in a hurry", "a school class", "a support agent",
    ),
    "result": (
        "answer", "result", "solution", "conclusion", "final answer", "outcome", "verdict",
        "reply",
    ),
    "work": (
        "reasoning", "working", "thinking", "derivation", "thought process", "analysis",
        "argument", "chain of thought",
    ),
    "mark": (
        "Answer", "Result", "Final", "Conclusion", "Output", "Solution", "Verdict", "###", ">>>",
        "ANSWER", "Response", "[end]",
    ),
    "shape": (
        "JSON", "a JSON object", "Markdown", "plain text", "bullet points", "a table",
        "numbered lines", "short paragraphs", "YAML", "a code block", "XML tags", "CSV rows",
    ),
    "count": ("two", "three", "four", "five", "six", "eight", "ten", "a dozen"),
    "tongue": ("English", "plain English", "the language of the question", "British English"),
    "firm": (
        "Norfolk Freight", "Bluepine", "Harbour Desk", "Kestrel", "Northway", "Lumen Works",
        "Oakline", "Teal Systems", "Marrow & Co", "Vantage Point", "Juniper Labs", "Rook Street",
        "Alder House", "Copperfield", "Stonebridge", "Quill", "Everline", "Saltmarsh", "Parcel",
    ),
}  # fmt: skip

#: The forms of every kind of sentence.
FORMS: dict[str, tuple[str, ...]] = {
    "role": (
        "You are [a|an exceptionally|a truly|a very] {adjective} {who} [who works in|with a "
        "background in|specialised in|focused on] {field}.",
        "[Act as|Play the part of|Take the role of|Behave like] a {adjective} {who} [for|in the "
        "area of|in] {field}.",
        "[Imagine|Suppose|Assume] that you [have spent|spent] [many|twenty|long] years [as a|"
        "working as a] {who} in {field}.",
        "[In this conversation|Here|For what follows] you [speak|respond|answer] as a {who} "
        "[known for|respected for] {adjective} work [in|on] {field}.",
        "[Your job is|Your task is|You have been hired] to [help with|assist with|handle] {field} "
        "[the way|just as] a {adjective} {who} would.",
        "[A|Some] {adjective} {who} [is needed|is wanted] for {field}, [and that is you|be that "
        "person|please fill in].",
    ),
    "audience": (
        "[Write|Explain things|Phrase it] [for|so that it suits] {reader}.",
        "[The person reading this|Whoever reads it|Your reader] is {reader}, [so choose|pick] "
        "[words|terms] [accordingly|that fit].",
        "[Keep in mind|Bear in mind|Remember] that {reader} [will read|is going to read] [this|"
        "what you write].",
        "[It must|It should|This has to] [make sense to|be clear to|work for] {reader}.",
        "[Assume|Suppose] {reader} [asks|is asking|is on the other side].",
    ),
    "tone": (
        "[Stay|Remain|Be] [polite|friendly|calm|neutral] [and|but] [brief|direct|to the point].",
        "[Use|Keep|Choose] a [warm|neutral|formal|relaxed] [tone|voice|register] [throughout|at "
        "all times|from start to end].",
        "[No|Avoid|Skip] [small talk|flattery|filler|apologies], [just|simply] [help|get to the "
        "matter].",
        "[Sound|Write] like [a human being|a good colleague|somebody who cares], [never|not] like "
        "[a machine|a form letter].",
        "[Friendliness|Courtesy] [matters|counts], [yet|but] [clarity|substance] [comes|goes] "
        "first.",
    ),
    "length": (
        "[Use|Write|Limit yourself to] [at most|no more than|about] {count} [sentences|lines|"
        "paragraphs].",
        "[Keep it|Make it|Stay] [short|compact|concise][, please|: {count} sentences|].",
        "[Anything|Whatever is] longer than {count} [sentences|points] [will be cut|is too much].",
        "[Do not|Never] [exceed|go beyond|write more than] {count} [lines|sentences|paragraphs].",
        "[Length|Size] of the [text|reply]: {count} [sentences|lines|points] [or so|at most|].",
    ),
    "format": (
        "[Return|Give|Deliver|Provide] [everything|the output|your reply] as {shape}[, nothing "
        "else| only|].",
        "[The output|Your reply|What you send] [must|should|has to] be {shape}.",
        "[Use|Write] {shape} [for|in] [the whole|your entire] [reply|output].",
        "[Format|Layout]: {shape}[, without any preamble|, no comments|].",
        "[We parse|A script parses|The program reads] [what you write|the output], so [stick to|"
        "use] {shape}.",
    ),
    "caution": (
        "[If|When|Whenever] [something|anything] is [unclear|ambiguous|missing], [say so|ask|"
        "state your assumption].",
        "[Do not|Never] [invent|make up|guess] [facts|numbers|sources].",
        "[Admit it|Say so openly|Tell us] [when|if] you [do not know|are not sure].",
        "[Stick|Keep] to [what is given|the facts|the material] and [avoid|skip] [speculation|"
        "guesswork].",
        "[Mistakes|Errors] [are costly|cost us] [here|in {field}], [be careful|take care].",
    ),
    "language": (
        "[Answer|Reply|Respond|Write] in {tongue}[ only| always|].",
        "[The language|Your language] [is|must be] {tongue}.",
        "[Whatever the input|Regardless of the input], [use|stay in] {tongue}.",
        "{tongue} [is what|is the language] [we use|our people read].",
    ),
    "context": (
        "[This|The service|The page] [belongs to|is run by|is part of] {firm}, [a company for|"
        "known for|active in] {field}.",
        "[Our team at|We at|The people of] {firm} [work|deal] with {field} [every day|all day|].",
        "[Context|Background]: {firm}, {field}, [internal use|live service|daily work].",
        "[You work for|You represent|You belong to] {firm}, [which|a firm that] [offers|does|"
        "provides] {field}.",
        "[Requests|Questions|Messages] [come|arrive] from [users|clients|staff] of {firm} [about|"
        "concerning] {field}.",
    ),
    "steps": (
        "[Think|Reason|Work] [step by step|one step at a time|in small steps] [before|until] "
        "[you give|reaching|arriving at] the {result}.",
        "[Break|Split|Divide] the [problem|task|question] [into|down into] [parts|steps|smaller "
        "pieces] and [solve|treat|do] [each|them] [in order|one after another].",
        "[Lay out|Write down|Show] [every|each|all] [step|stage] of your {work} [in order|"
        "numbered|explicitly].",
        "[Begin|Start] with [what is known|the givens], [go|move|proceed] [step by step|slowly|"
        "carefully] [to|towards] the {result}.",
        "[No step|Not a single step|Nothing] [may|should|must] be [skipped|left out|omitted] on "
        "the way to the {result}.",
        "[First|Before anything else] [write|set out] [a plan|the plan], [then|after that] [carry "
        "it out|follow it] [in full|line by line].",
    ),
    "verbatim": (
        "[Write|Put|Spell] [out|down] your [complete|full|entire|whole] {work} [verbatim|as it "
        "comes|word for word] [before|ahead of] the {result}.",
        "[Include|Show|Expose] [all|the whole of] your [internal|private|own] {work}, [unedited|"
        "without summarising|uncut].",
        "[I want|We want|We need] [to see|to read] the {work} itself, [not|rather than] [a "
        "summary|an abridged form] of it.",
        "[Do not|Never] [summarise|shorten|condense] [the|your] {work}; [give|print] it [in full|"
        "completely].",
        "[Between|Inside] [think tags|<think> tags|the first block] [goes|comes] your {work}, "
        "[complete|uncut|from first to last thought].",
    ),
    "alternatives": (
        "[Give|Offer|Produce] {count} [different|distinct|independent] [solutions|attempts|"
        "approaches] and [compare|rank|weigh] them.",
        "[After|Once] the first [attempt|solution], [try|find] [another|a second] [way|route] "
        "[and|to] [check|confirm] [that they agree|it].",
        "[Consider|Explore|Examine] [at least|no fewer than] {count} [approaches|strategies] "
        "[before|and then] [choosing|settling].",
        "[There are|There is] [several|more than one] [ways|way]: [show|present] {count} of them.",
    ),
    "check": (
        "[Verify|Check|Test] [your|the] {result} [at the end|by substitution|once more] and "
        "[correct|repair|fix] [what is wrong|any slip].",
        "[Before|Prior to] [finishing|you finish], [look for|search for|hunt for] [mistakes|"
        "errors] in [your|the] {work}.",
        "[Close|End|Finish] with a [short|brief] [proof|check|test] that the {result} [holds|is "
        "right].",
        "[Reread|Go over|Review] [everything|the {work}] [once|critically] and [say|state] [how "
        "sure|how confident] you are.",
    ),
    "rubric": (
        "[Grade|Score|Rate] [the|your] {result} [from one to ten|on a scale of ten] [for|on] "
        "[correctness|clarity] and [justify|explain] [the|your] [grade|score].",
        "[Judge|Assess|Evaluate] [your own|the] {result} [against|by] [a rubric|these criteria]: "
        "[correctness, clarity, completeness|accuracy, depth, style].",
        "[State|Write] [which|what] [criteria|points] a [good|perfect] {result} [must|should] "
        "[meet|satisfy] and [whether|how far] [yours|it] does.",
        "[A critic|A strict judge|An examiner] [reads|marks] the {result}; [write|add] [the|that] "
        "[critique|verdict] [as well|too].",
    ),
    "final": (
        "[Put|Place|Write] the {result} [on the last line|on a line of its own|at the very end] "
        "[after|behind|following] {mark}.",
        "[The last line|Your last line|The closing line] [reads|is|must be] {mark} [followed by|"
        "and then] the {result}.",
        "[End|Finish|Close] [with|by writing] {mark} and the {result}.",
        "[Mark|Flag|Label] the {result} with {mark} [so that|so] [it|we] [can be found|find it].",
        "{mark} [introduces|precedes|marks] the {result}, [which|and it] [stands|comes] last.",
    ),
    "tools": (
        "[If|Where|When] a [tool|function] [would help|is of use], [write|show] the [call|"
        "invocation] [with|and] [all|its] arguments.",
        "[Say|Explain|State] [why|for what reason] [each|every] [call|action] is [made|taken] "
        "[and|plus] what you [expect|hope to see].",
        "[Act|Work|Proceed] [in a loop|in rounds]: thought, action, observation, [until|till] "
        "[done|the goal is reached].",
        "[List|Name] the [actions|calls|commands] [in order|one by one], [each|every one] with "
        "[its|the] [reason|purpose].",
    ),
    "depth": (
        "[Go|Dig|Be] as [deep|detailed|thorough] as [you can|possible]; [nothing|no detail] is "
        "too [small|obvious].",
        "[Explain|Cover|Discuss] [the underlying|every relevant] [principle|idea|concept] [before|"
        "while] [applying|using] it.",
        "[A long|A complete|A full] [treatment|explanation] is [better than|preferred over] a "
        "[short|hasty] one.",
        "[Spare|Save] no [words|detail] [on|about] the [hard|tricky|difficult] [parts|points].",
    ),
}
