"""Reading files that others wrote, up to a limit."""

from pathlib import Path

from stages.runtime.errors import BadInput


def read_limited(path: Path, most: int) -> bytes:
    """The content of a file; BadInput if it cannot be read, or has more than ``most`` bytes (whole MiB)."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}). Check the file.") from error
    if len(content) > most:
        raise BadInput(f"{path} is larger than {most >> 20} MiB. Check that it is the right file.")
    return content
