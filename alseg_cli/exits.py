"""Turns exceptions of stages into messages and exit codes."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stages.runtime.console import print_line
from stages.runtime.errors import BadInput, StageFailed, Stopped

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75
MOST_FAULTS = 50


@contextmanager
def exit_codes() -> Iterator[None]:
    """0 done, 2 wrong usage or bad input, 1 failure, 75 stopped after saving (run it again to continue)."""
    try:
        yield
    except BadInput as error:
        for fault in error.faults[:MOST_FAULTS]:
            tell(f"error: {fault}")
        if len(error.faults) > MOST_FAULTS:
            tell(f"error: and {len(error.faults) - MOST_FAULTS} more faults")
        raise SystemExit(BAD_INPUT) from None
    except StageFailed as error:
        tell(f"failed: {error}")
        raise SystemExit(FAILED) from None
    except Stopped as error:
        tell(f"{error}")
        raise SystemExit(STOPPED) from None
    except BrokenPipeError:  # `alseg inspect ... | head`
        raise SystemExit(FAILED) from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            tell(f"error: {error.filename}: the name or the path is too long. Use a shorter one.")
            raise SystemExit(BAD_INPUT) from None
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EISDIR):
            raise
        tell(f"failed: {error.strerror} ({error.filename or 'no file named'}); nothing was published.")
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        tell("interrupted; no partial output was written; run the same command to continue")
        raise SystemExit(130) from None


def tell(text: str) -> None:
    print_line(text, sys.stderr)


def open_standard_streams() -> None:
    """Opens those that are closed: otherwise the next file, an artifact, would become standard output."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def end_quietly() -> None:
    """Keeps the end of the interpreter from changing the exit code: by Ctrl-C, or by lines that cannot be printed.

    What a command was asked to print was flushed, so only news is left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
