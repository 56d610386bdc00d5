"""One answer of a person, as the page sends it and the journal keeps it, and whether it fits its query."""

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.answering.questions import Questions

LONGEST_NAME = 64
Text = Annotated[str, Field(max_length=1000)]


class Refused(Exception):
    """A request that cannot be served: an HTTP status and a sentence. The server goes on."""

    def __init__(self, status: int, sentence: str):
        self.status, self.sentence = status, sentence
        super().__init__(sentence)


class Given(BaseModel):
    """The answer to a query, with what it was about.

    Exactly one class, or with sets any number of them and void; void alone; ``skip``: don't know; or a mask.
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
    mask: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""  # the digest of a finished mask
    seconds: float
    annotator: Text
    at: Text = ""  # when it was taken, for people who read the journal


def what_is_wrong(error: ValidationError) -> str:
    """A pydantic error in a few words."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg']}" if name else first["msg"]


def fault(given: Given, questions: Questions) -> str | None:
    """Why ``given`` is no answer to one of the ``questions``, as a sentence; None where it is one."""
    known, count = len(questions.classes), len(questions.queries)
    if not 0 <= given.query < count:
        return f"There is no query {given.query}; the file asks {count}."
    place = questions.place(given.query)
    told = {name: getattr(given, name) for name in place}
    if told != place:
        return f"Query {given.query} asks about {place}, not {told}; reload the page."
    wrong = [label for label in given.classes if not 0 <= label < known]
    if wrong or len(set(given.classes)) != len(given.classes):
        return f"The classes {list(given.classes)} are not distinct numbers from 0 to {known - 1}; reload the page."
    if not (math.isfinite(given.seconds) and given.seconds >= 0):
        return f"An answer cannot have taken {given.seconds} seconds; reload the page."
    if not fits(given, questions):
        return "An answer is one class, or with sets at least one, or void, or skip, or a mask; reload the page."
    return name_fault(given.annotator)


def fits(given: Given, questions: Questions) -> bool:
    """Whether the parts of the answer make one of the kind that is asked for."""
    named = len(given.classes)
    if given.mask or questions.queries.answer == "mask":
        return bool(given.mask) and questions.queries.answer == "mask" and not (named or given.void or given.skip)
    if given.skip or not named:
        return given.skip != given.void and not named
    if questions.queries.answer == "class-set":
        return True  # beside classes void may be named too
    return not given.void and (named == 1 or questions.of_sets)


def name_fault(name: str) -> str | None:
    """Why ``name`` is no name for an annotator."""
    if 0 < len(name) <= LONGEST_NAME and name.isprintable() and name == name.strip():
        return None
    return f"A name has 1 to {LONGEST_NAME} printable characters; choose another one."
