"""A time limit on reading attributes that alseg would not write: HDF5 may loop for ever on their damaged bytes.

The loop is in C and cannot be interrupted, so a process of its own reads the attributes first. Only files with text of
variable length (written by older versions) or of an older HDF5 format (not written by alseg) need it.
"""

import os
import select
import subprocess
import sys
from functools import cache
from pathlib import Path

SILENCE_SECONDS = 20.0  # between two signs of life; starting Python counts as one
READ = """
import sys
import h5py
def read(item):
    for name in item.attrs:
        item.attrs[name]
    print(end=".", flush=True)
with h5py.File(sys.argv[1], "r", locking=False) as file:
    read(file)
    if sys.argv[2] == "everything":
        file.visititems(lambda name, item: read(item))
"""
SIGNATURE, OLD_FORMATS = b"\x89HDF\r\n\x1a\n", (0, 1)  # superblocks without checksums


def has_old_format(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return start[:8] == SIGNATURE and start[8:] in map(bytes, ([number] for number in OLD_FORMATS))


def answers_in_time(path: Path, what: str) -> bool:
    """Whether HDF5 reads the attributes of ``what`` ("root" or "everything") in ``path`` without looping or crashing.

    An error that HDF5 reports does not count: whoever reads the file next gets it too.
    """
    stamp = path.stat()
    return ended(path, what, (stamp.st_ino, stamp.st_size, stamp.st_mtime_ns, stamp.st_ctime_ns))


@cache
def ended(path: Path, what: str, stamp: tuple[int, ...]) -> bool:
    """As `answers_in_time`; ``stamp`` changes with the file."""
    command = [sys.executable, "-P", "-c", READ, str(path), what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        while select.select([child.stdout], [], [], SILENCE_SECONDS)[0]:
            if not os.read(child.stdout.fileno(), 1 << 16):
                return child.wait() >= 0  # negative: it crashed
        child.kill()
    return False
