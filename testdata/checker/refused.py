"""The one exception of the checker: something is not as the documents demand."""


class Refused(Exception):
    """word is that of the documents' tables of errors, text says what it was."""

    def __init__(self, word, text=""):
        super().__init__(f"{word}: {text}" if text else word)
        self.word = word


def must(truth, word, text=""):
    if not truth:
        raise Refused(word, text)
