"""Names of files that are not UTF-8: Python keeps their odd bytes as surrogates, which no text file can hold."""


def is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    r"""``name`` with its odd bytes as they are written in a shell: caf\xe9.png."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
