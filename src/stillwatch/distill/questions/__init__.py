"""Questions: where they come from, what is left out, and in what order they are asked."""

from stillwatch.distill.questions.build import (
    Counts,
    QuestionSet,
    build_questions,
    file_items,
)
from stillwatch.distill.questions.contamination import HeldOut, find_contaminated
from stillwatch.distill.questions.table import FileTable, QuestionsTable

__all__ = [
    "Counts",
    "FileTable",
    "HeldOut",
    "QuestionSet",
    "QuestionsTable",
    "build_questions",
    "file_items",
    "find_contaminated",
]
