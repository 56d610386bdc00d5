"""An annotator's answer, as the page sends it and the journal stores it, and the check that it fits its query."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.answering.questions import EXACT, Questions

LONGEST_NAME = 64
MOST_CLICKS = 1_000_000
Text = Annotated[str, Field(max_length=1000)]


class Answer(BaseModel):
    """The answer to a query, which it identifies by number and place.

    One of: a single class (for class sets any number of classes, and void); void alone; ``skip`` (don't know); a mask
    (exact labels of an image or a region).
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    query: int
    image: Text
    y: int
    x: int
    region: int
    classes: Annotated[tuple[int, ...], Field(max_length=256)] = ()
    void: bool = False
    skip: bool = False
    mask: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # digest of a finished mask
    clicks: Annotated[int, Field(ge=0, le=MOST_CLICKS)] = 0  # on a mask painted on the page; 0: painted elsewhere
    suggested: int = -1  # the class that a model suggested on the page; -1: none was shown
    suggested_by: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # digest of that model
    seconds: float
    annotator: Text
    at: Text = ""  # time of the answer, for people who read the journal


def fault(answer: Answer, questions: Questions) -> str | None:
    """Why ``answer`` does not answer one of the ``questions``, as a sentence; None if it does."""
    known, count = len(questions.classes), len(questions.queries)
    if not 0 <= answer.query < count:
        return f"Unknown query {answer.query}: the file contains {count} queries."
    place = questions.place(answer.query)
    named = {name: getattr(answer, name) for name in place}
    if named != place:
        return f"Query {answer.query} is about {place}, not about {named}. Reload the page."
    wrong = [label for label in answer.classes if not 0 <= label < known]
    if wrong or len(set(answer.classes)) != len(answer.classes):
        return f"The classes {list(answer.classes)} must be distinct numbers from 0 to {known - 1}. Reload the page."
    if not (math.isfinite(answer.seconds) and answer.seconds >= 0):
        return f"{answer.seconds} seconds is not a valid time for an answer. Reload the page."
    if not -1 <= answer.suggested < known or (answer.clicks and not answer.mask):
        return "The suggestion or the clicks do not fit the answer. Reload the page."
    if not fits(answer, questions):
        return "An answer is one class (of a set: at least one), void, skip, or a mask. Reload the page."
    return name_fault(answer.annotator)


def fits(answer: Answer, questions: Questions) -> bool:
    """Whether the fields form an answer of the kind that the queries ask for."""
    named = len(answer.classes)
    if answer.mask:
        return questions.queries.answer in EXACT and not (named or answer.void or answer.skip)
    if questions.queries.answer in EXACT:
        return questions.queries.answer == "precise" and answer.skip and not (named or answer.void)
    if answer.skip or not named:
        return answer.skip != answer.void and not named
    if questions.queries.answer == "class-set":
        return True  # void may be named beside classes
    return not answer.void and (named == 1 or questions.of_sets)


def name_fault(name: str) -> str | None:
    """Why ``name`` is not a valid name of an annotator, as a sentence; None if it is."""
    if 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip():
        return None
    return f"An annotator's name must have 1 to {LONGEST_NAME} printable characters. Choose another name."


def what_is_wrong(error: ValidationError) -> str:
    """A pydantic error in a few words."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg']}" if name else first["msg"]
