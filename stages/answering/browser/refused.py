"""Requests that the server of the page refuses."""


class Refused(Exception):
    """A request that cannot be served: an HTTP status and a sentence. The server keeps running."""

    def __init__(self, status: int, sentence: str):
        self.status, self.sentence = status, sentence
        super().__init__(sentence)
