"""HDF5 never keeps a stage waiting: not on new files, whatever was zeroed in them, and not on older ones."""

import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from forged import forge

from stages.artifacts import time_limit
from stages.artifacts.opening import open_any
from stages.runtime.errors import BadInput

BEFORE = Path(__file__).parents[1] / "data" / "before"
SECTOR = 512
SAFETY_NET = 120  # seconds, for a process that would otherwise hang for ever
READ = """
import sys
from pathlib import Path
from stages.artifacts.verify import verify_one
from stages.runtime.errors import BadInput
path, sector = Path(sys.argv[1]), int(sys.argv[2])
content = path.read_bytes()
for start in range(0, len(content), sector):
    end = min(start + sector, len(content))
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    try:
        verify_one(path)
    except BadInput:
        pass
print("done")
"""
LIMITED = """
import sys
from pathlib import Path
from stages.artifacts import time_limit
from stages.artifacts.verify import verify_one
from stages.runtime.errors import BadInput
time_limit.SILENCE_SECONDS = 3
try:
    faults, _ = verify_one(Path(sys.argv[1]))
except BadInput as error:
    faults = error.faults
print(faults)
"""


def run(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=SAFETY_NET, check=True
    )
    return done.stdout


@pytest.mark.parametrize("name", ["queries-1.h5", "annotations-1.h5", "scores-pixels.h5", "superpixels.h5"])
def test_new_files_with_any_sector_zeroed(name, tmp_path):
    path = forge(BEFORE / name, tmp_path / name, lambda attributes, arrays: None)
    assert run(READ, path, SECTOR) == "done\n"


@pytest.mark.parametrize("heap", [0, -1], ids=["of the file", "of an array"])
def test_an_older_file_with_a_zeroed_sector_in_its_text(heap, tmp_path):
    """Its attributes are in heaps; behind the zeroed sector, HDF5 looks for the end of the heap for ever."""
    path = tmp_path / "q.h5"
    content = (BEFORE / "queries-0.h5").read_bytes()
    heaps = [place for place in range(len(content)) if content.startswith(b"GCOL", place)]
    start = heaps[heap] + SECTOR
    path.write_bytes(content[:start] + bytes(SECTOR) + content[start + SECTOR :])
    assert "HDF5 did not return from reading its attributes. Rebuild it." in run(LIMITED, path)


def test_whole_older_files_are_read_once_by_another_process(tmp_path, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **more: started.append(words) or popen(*words, **more))
    path = tmp_path / "q.h5"
    path.write_bytes((BEFORE / "queries-0.h5").read_bytes())
    assert len(open_any(path)) == len(open_any(path)) == 8
    assert len(started) == 1
    new = forge(path, tmp_path / "new.h5", lambda attributes, arrays: None)
    started.clear()
    open_any(new)
    assert started == []


def test_a_file_of_an_older_format_is_read_by_another_process_first(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(time_limit, "ended", lambda path, what, stamp: asked.append(what) or False)
    path = tmp_path / "foreign.h5"
    with h5py.File(path, "w", libver="earliest") as file:
        file["numbers"] = [1, 2, 3]
    with pytest.raises(BadInput, match="did not return"):
        open_any(path)
    assert asked == ["everything"]


def test_a_reader_that_crashes_is_not_followed(tmp_path, monkeypatch):
    path = tmp_path / "q.h5"
    path.write_bytes((BEFORE / "queries-0.h5").read_bytes())
    monkeypatch.setattr(time_limit, "READ", "import os; os.abort()")
    with pytest.raises(BadInput, match="did not return"):
        open_any(path)
