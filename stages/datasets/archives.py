"""The archives of a dataset: fetched into its folder, checked against their checksums, unpacked whole or not at all."""

import hashlib
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from stages.artifacts.locks import output_lock
from stages.artifacts.publish import make_folder, partial_path, refusal
from stages.datasets.downloading import download
from stages.datasets.fields import RelativePath, Table
from stages.runtime.console import say
from stages.runtime.errors import BadInput

BLOCK = 1 << 20
MOST_TIMES = 20  # the size of the archive: more is no compression of images


class Archive(Table):
    """A tar or zip file to fetch from ``url``, and what to unpack from it.

    Everything in ``takes`` (files and folders below ``inside``) lies below the folder ``to`` of the root afterwards.
    ``md5`` or ``sha256`` is that of the archive. Hosts that make archives on request do not keep their bytes; for
    those ``content`` is the SHA-256 of what is unpacked (`content_digest`). ``size`` in bytes is an estimate.
    """

    url: str = Field(pattern=r"^https?://[^\s]+/[^\s/]+$")
    size: int = Field(strict=True, ge=1)
    inside: str = ""
    takes: tuple[RelativePath, ...] = Field(min_length=1)
    to: RelativePath | None = None
    md5: str | None = Field(None, pattern=r"^[0-9a-f]{32}$")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    content: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _check_checksum(self) -> Self:
        if (self.md5, self.sha256, self.content).count(None) != 2:
            raise ValueError("md5, sha256 and content exclude one another. Set one of them.")
        return self

    @property
    def name(self) -> str:
        """The name of the file."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def checksum(self) -> str:
        """The expected checksum, in words."""
        if self.content is not None:
            return f"SHA-256 {self.content} of its content"
        return f"MD5 {self.md5}" if self.md5 is not None else f"SHA-256 {self.sha256}"

    def targets(self, root: Path) -> dict[str, Path]:
        """What is taken -> where it lies below ``root``."""
        folder = root if self.to is None else root / self.to
        return {taken: folder / taken for taken in self.takes}


@dataclass(frozen=True)
class Member:
    """A file in an archive."""

    name: str
    size: int
    plain: bool
    open: Callable[[], IO[bytes] | None]


def fetch_archives(archives: tuple[Archive, ...], root: Path) -> None:
    """Makes sure that everything that ``archives`` give lies below ``root``; fetches only what is needed for that.

    An archive that lies in ``root`` is used as if it had been fetched. Raises StageFailed without network or on a full
    disk, BadInput for a wrong checksum or a member that would lie elsewhere, Stopped on a signal.
    """
    for archive in archives:
        if all(target.exists() for target in archive.targets(root).values()):
            continue
        path = root / archive.name
        remedy = f"Run the same command again, or put the file at {path} by hand ({archive.checksum})."
        make_folder(root)
        with output_lock(path):
            fetched = not path.exists()
            if fetched:
                download(archive.url, path, archive.size, remedy, partial(checksum_fault, archive))
            elif wrong := checksum_fault(archive, path):
                raise BadInput(f"{path}: {wrong}. Remove it. {remedy}")
            try:
                unpack(archive, path, root)
            except WrongContent as error:
                if fetched:
                    path.unlink()
                raise BadInput(f"{path}: {error}. {'It was removed' if fetched else 'Remove it'}. {remedy}") from error
        say(f"unpacked {path}, which is not needed any more")


class WrongContent(Exception):
    """What was unpacked is not what the archive should contain."""


def checksum_fault(archive: Archive, path: Path) -> str | None:
    """What is wrong with the checksum of ``path``, if anything; one of the content is checked by `unpack`."""
    for name, expected in (("md5", archive.md5), ("sha256", archive.sha256)):
        if expected is not None:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, name).hexdigest()
            if found != expected:
                return f"the checksum is {found}, not {expected}: the file is damaged or was changed"
    return None


def unpack(archive: Archive, path: Path, root: Path) -> None:
    """Puts what ``archive`` gives into place, each file or folder by one rename; what exists already is kept.

    Raises WrongContent, BadInput for what no dataset contains, and StageFailed on a full disk.
    """
    targets = archive.targets(root)
    work = partial_path(path)
    try:
        extract(archive, path, work)
        if archive.content is not None and (found := content_digest(work)) != archive.content:
            raise WrongContent(f"the checksum of its content is {found}, not {archive.content}")
        for taken in targets:
            if not (work / taken).exists():
                raise BadInput(f"{path} contains no {archive.inside}/{taken}. Correct the description, key archives.")
        os.sync()
        for taken, target in targets.items():
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(work / taken, target)
    except OSError as error:
        raise refusal(f"Cannot unpack {path}", error) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def extract(archive: Archive, path: Path, work: Path) -> None:
    """Writes the files of ``archive`` that are taken below the new folder ``work``; links are never followed."""
    prefix, left = PurePosixPath(archive.inside), MOST_TIMES * archive.size
    taken = [PurePosixPath(each) for each in archive.takes]
    try:
        with members(path) as found:
            for member in found:
                name = safe_name(path, member.name)
                if not name.is_relative_to(prefix):
                    continue
                name = name.relative_to(prefix)
                if not any(name.is_relative_to(each) for each in taken):
                    continue
                left -= member.size
                if left < 0:
                    raise BadInput(f"{path}: its files are more than {MOST_TIMES} times as large. Do not use it.")
                if not member.plain:
                    raise BadInput(f"{path}: {member.name!r} is a link or device. Use an archive of files and folders.")
                source = member.open()
                assert source is not None
                target = work / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, BLOCK)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # gzip and bz2 tell about damage this way
            raise damaged(path, error) from error
        raise


def damaged(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path} is not a tar or zip archive, or is damaged ({error}). Remove it and run again.")


def safe_name(path: Path, name: str) -> PurePosixPath:
    """The name of a member; BadInput if it leads out of the folder."""
    found = PurePosixPath(name)
    if found.is_absolute() or ".." in found.parts or "\\" in name or "\0" in name:
        raise BadInput(f"{path}: the member {name!r} leads out of the folder. Do not use this archive.")
    return found


@contextmanager
def members(path: Path) -> Iterator[Iterator[Member]]:
    """The members of a zip or tar archive that are no folders."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            yield (
                Member(each.filename, each.file_size, is_plain(each), partial(zipped.open, each))
                for each in zipped.infolist()
                if not each.is_dir()
            )
    else:
        with tarfile.open(path) as packed:
            yield (
                Member(each.name, each.size, each.isreg(), partial(packed.extractfile, each))
                for each in packed
                if not each.isdir()
            )


def is_plain(member: zipfile.ZipInfo) -> bool:
    """False for what an archive made on Unix stores as a link or device."""
    return stat.S_IFMT(member.external_attr >> 16) in (0, stat.S_IFREG)


def content_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of all files below ``folder``, in the order of their names."""
    lines = []
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            lines.append(f"{file.relative_to(folder).as_posix()}\0{digest}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
