"""Requests that the server of the page refuses."""

from pydantic import ValidationError


class Refused(Exception):
    """A request that cannot be served: an HTTP status and a sentence. The server keeps running."""

    def __init__(self, status: int, sentence: str):
        self.status, self.sentence = status, sentence
        super().__init__(sentence)


def what_is_wrong(error: ValidationError) -> str:
    """A pydantic error in a few words."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    return f"{name}: {first['msg']}" if name else first["msg"]
