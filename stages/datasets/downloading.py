"""Fetching one file over HTTP: complete or absent, and continued where it stopped."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from stages.artifacts.publish import refusal, require_space
from stages.runtime.console import Progress, say
from stages.runtime.errors import BadInput, StageFailed, Stopped
from stages.runtime.signals import stop_on_signal

BLOCK = 1 << 20
SECONDS = 60  # without a single byte
MEGABYTE = 10**6


def unfinished_path(path: Path) -> Path:
    """Where the part of ``path`` that was fetched so far lies."""
    return path.with_name(f"{path.name}.part")


def download(url: str, path: Path, size: int, remedy: str, fault: Callable[[Path], str | None]) -> None:
    """Fetches ``url`` to ``path``, which appears only once it is complete and ``fault`` finds nothing wrong with it.

    What an interrupted call fetched is kept and continued. ``size`` in bytes is an estimate. Raises StageFailed, with
    ``remedy``, without network or on a full disk, Stopped on a signal, and BadInput for a file with a fault, which is
    removed, since continuing could not correct it.
    """
    unfinished = unfinished_path(path)
    begun = unfinished.stat().st_size if unfinished.exists() else 0
    total = None
    try:
        with answer(url, begun) as response:
            begun = continued_from(response, begun)
            total = expected_size(response, begun)
            require_space(path.parent, (total or size) - begun, f"Downloading {path.name}")
            receive(response, unfinished, begun, total or size)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # otherwise nothing is left to fetch
            reason = f"the server answers {error.code} {error.reason}"
            raise StageFailed(f"Cannot download {url}: {reason}. {remedy}") from error
    except (http.client.HTTPException, OSError) as error:
        cause = getattr(error, "reason", None) or error
        raise StageFailed(f"Cannot download {url}: {cause}. {remedy}") from error
    found = unfinished.stat().st_size
    if total is not None and found < total:
        raise StageFailed(f"Cannot download {url}: the connection ended after {found} of {total} bytes. {remedy}")
    if wrong := fault(unfinished):
        unfinished.unlink()
        raise BadInput(f"{url}: {wrong}. {remedy}")
    os.replace(unfinished, path)


def answer(url: str, begun: int) -> Any:
    """The answer of the server to a request for ``url`` from byte ``begun`` on."""
    headers = {"User-Agent": "alseg"} | ({"Range": f"bytes={begun}-"} if begun else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS)


def continued_from(response: Any, begun: int) -> int:
    """The byte that ``response`` begins with: ``begun``, or 0 if the server sends the whole file again."""
    span = response.headers.get("Content-Range", "")
    return begun if response.status == HTTPStatus.PARTIAL_CONTENT and span.startswith(f"bytes {begun}-") else 0


def expected_size(response: Any, begun: int) -> int | None:
    """The size of the whole file, if the server tells it."""
    length = response.headers.get("Content-Length", "")
    return begun + int(length) if length.isdecimal() else None


def receive(response: Any, unfinished: Path, begun: int, total: int) -> None:
    """Writes the body of ``response`` into ``unfinished`` from byte ``begun`` on."""
    say(f"downloading {response.url}: {(total - begun) / MEGABYTE:.1f} MB")
    with (
        stop_on_signal() as stop,
        opened(unfinished, begun) as file,
        Progress(f"downloading {unfinished.stem} (MB)", max(total // MEGABYTE, 1)) as bar,
    ):
        bar.advance(begun // MEGABYTE)
        rest = begun % MEGABYTE
        while block := response.read(BLOCK):
            write(file, block, unfinished)
            steps, rest = divmod(rest + len(block), MEGABYTE)
            bar.advance(steps)
            if stop:
                raise Stopped(f"stopped; {unfinished} is kept, run the same command to continue")


def opened(unfinished: Path, begun: int) -> BinaryIO:
    """The file to write to, from byte ``begun`` on."""
    try:
        file = unfinished.open("r+b" if begun else "wb", buffering=0)
    except OSError as error:
        raise refusal(f"Cannot write {unfinished}", error) from error
    file.seek(begun)
    return file


def write(file: BinaryIO, block: bytes, unfinished: Path) -> None:
    try:
        while block:
            block = block[file.write(block) :]
    except OSError as error:
        raise refusal(f"Cannot write {unfinished}", error) from error
