"""Turns exceptions of stages into messages and exit codes."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EISDIR):
            raise
        tell(f"failed: {error.strerror} ({error.filename or 'no file named'}); nothing was published.")
        raise SystemExit(FAILED) from None
    except KeyboardInterrupt:
        tell("interrupted; no partial output was written; run the same command to continue")
        raise SystemExit(130) from None


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
