"""Turns exceptions of stages into messages and exit codes."""

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stages.artifacts.failures import note_failure
from stages.registry import STAGES
from stages.runtime.console import is_main_process, print_line
from stages.runtime.errors import NOTHING_LEFT, BadInput, NothingLeft, StageFailed, Stopped
from stages.runtime.file_names import is_utf8, readable
from stages.runtime.memory import is_of_gpu, is_out_of_memory
from stages.settings.base import fields_of
from stages.settings.text import option_name

DONE, FAILED, BAD_INPUT, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130
MOST_FAULTS = 50
MEMORY_SETTINGS = ("batch", "crop", "workers", "scale", "long_side")  # those that a lower value makes smaller
# What a path that was passed can be guilty of; any other error of the system is no fault of the input
WRONG_PATH = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SYSTEM = FULL | {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}  # known without any path


@contextmanager
def exit_codes(words: Sequence[str] = ()) -> Iterator[None]:
    """0 done, 2 wrong usage or bad input, 3 nothing left to query, 1 failure, 75 stopped after saving (run it again).

    ``words`` are those typed after the program's name. What has no sentence is a bug and keeps its traceback.
    """
    try:
        require_utf8(words)
        with failures_noted(words):
            yield
    except NothingLeft as error:
        tell(f"{error}")
        raise SystemExit(NOTHING_LEFT) from None
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
    except KeyboardInterrupt:
        tell("interrupted; no partial output was written; run the same command to continue")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        found = sentence(error, words)
        if found is None:
            raise
        text, code = found
        tell(text)
        raise SystemExit(code) from None


@contextmanager
def failures_noted(words: Sequence[str]) -> Iterator[None]:
    """Leaves beside the output of the stage called with ``words`` how it failed, for `alseg status`, if it does."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        output = output_in(words)
        if output is not None and is_main_process():
            note_failure(output, *last_words(error, words))
        raise


def output_in(words: Sequence[str]) -> Path | None:
    """The output that the words of a stage's command name; None for other commands."""
    places = [place for place, word in enumerate(words[:-1]) if word in ("-o", "--output")]
    return Path(words[places[-1] + 1]) if places and words[0] in STAGES else None


def last_words(error: BaseException, words: Sequence[str]) -> tuple[int | None, str]:
    """Exit code and sentence of a failed command; no code for a bug, which has a traceback."""
    match error:
        case NothingLeft():
            return NOTHING_LEFT, str(error)
        case BadInput():
            return BAD_INPUT, error.faults[-1]
        case StageFailed():
            return FAILED, str(error)
        case Stopped():
            return STOPPED, str(error)
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted"
    found = sentence(error, words) if isinstance(error, Exception) else None
    return (None, f"{type(error).__name__}: {error}") if found is None else (found[1], found[0])


def require_utf8(words: Sequence[str]) -> None:
    """BadInput for words that no header, Makefile or page could record."""
    faults = [f"{readable(word)} is not UTF-8. Rename the file." for word in words if not is_utf8(word)]
    if faults:
        raise BadInput(faults)


def sentence(error: Exception, words: Sequence[str]) -> tuple[str, int] | None:
    """What to say of an error that machines, disks and names cause, and the exit code; None for a bug."""
    if is_out_of_memory(error):
        what = "The memory of the GPU" if is_of_gpu(error) else "Memory"
        return f"failed: {what} ran out; nothing half-written was published. {memory_remedy(words)}", FAILED
    if isinstance(error, UnicodeEncodeError) and not is_utf8(error.object):
        near = error.object[max(0, error.start - 40) : error.end + 40]
        return f"error: A name is not UTF-8, near {readable(near)!r}. Rename the file.", BAD_INPUT
    if isinstance(error, OSError) and error.strerror and (error.filename is not None or error.errno in SYSTEM):
        where = f"{readable(os.fsdecode(error.filename))}: " if isinstance(error.filename, str | bytes) else ""
        if error.errno in WRONG_PATH:
            long = error.errno == errno.ENAMETOOLONG
            remedy = "Use a shorter name or path" if long else "Check the path and its permissions"
            return f"error: {where}{error.strerror}. {remedy}.", BAD_INPUT
        remedy = "Free some space" if error.errno in FULL else "Check the disk and the limits of this account"
        return f"failed: {where}{error.strerror}; nothing was published. {remedy} and run it again.", FAILED
    return None


def memory_remedy(words: Sequence[str]) -> str:
    """Which options of the command to lower."""
    stage = next((STAGES[word] for word in words if word in STAGES), None)
    known = fields_of(stage.settings) if stage is not None and stage.settings is not None else {}
    options = [option_name(name) for name in MEMORY_SETTINGS if name in known]
    lower = f"Lower {' or '.join(options)}, or use" if options else "Use"
    return f"{lower} a machine with more memory free."


def tell(text: str) -> None:
    print_line(text, sys.stderr)


def open_standard_streams() -> None:
    """Opens those that are closed: otherwise the next file, an artifact, would become standard output.

    Characters that a terminal does not know, and names that are not UTF-8, are printed as \\x.. and end no command.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
