"""What machines, disks and names do to a command becomes one sentence and an exit code; bugs keep their traceback."""

import errno
import os
import sys

import numpy as np
import pytest
from PIL import Image

from alseg_cli import app
from alseg_cli.exits import exit_codes
from stages.datasets.description import DatasetDescription
from stages.datasets.files import find_samples
from stages.runtime.memory import is_out_of_memory


@pytest.fixture
def ended(capsys):
    """``ended(error, words)``: the exit code and what is said when a command raises ``error``."""

    def run(error: BaseException, *words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stopped, exit_codes(words):
            raise error
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        assert "Traceback" not in said
        return stopped.value.code, said

    return run


def cuda_error() -> BaseException:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def cpu_error() -> BaseException:
    import torch

    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    return refused.value


def numpy_error() -> BaseException:
    with pytest.raises(MemoryError) as refused:
        np.empty(1 << 60, dtype=np.uint8)
    return refused.value


def opencv_error() -> BaseException:
    cv2 = pytest.importorskip("cv2")
    return cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes")


class TestMemory:
    @pytest.mark.parametrize(
        "make, what",
        [
            (MemoryError, "Memory ran out"),
            (numpy_error, "Memory ran out"),
            (cpu_error, "Memory ran out"),
            (opencv_error, "Memory ran out"),
            (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), "Memory ran out"),
            (cuda_error, "The memory of the GPU ran out"),
            (lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "The memory of the GPU ran out"),
        ],
    )
    def test_whoever_runs_out_of_it_says_so(self, ended, make, what):
        code, said = ended(make(), "train", "d.h5")
        assert code == 1
        assert said.startswith(f"failed: {what}")

    @pytest.mark.parametrize(
        "words, lower",
        [
            (
                ["train", "d.h5", "a.h5"],
                "Lower --batch or --crop or --workers, or use a machine with more memory free.",
            ),
            (["prepare", "camvid"], "Lower --workers or --scale or --long-side, or use"),
            (["score", "train"], "Lower --batch, or use"),
            (["report", "run"], "Use a machine with more memory free."),
            ([], "Use a machine with more memory free."),
        ],
    )
    def test_what_can_be_lowered_is_named(self, ended, words, lower):
        assert lower in ended(MemoryError(), *words)[1]

    @pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("out of memory"), OSError("x")])
    def test_nothing_else_is_taken_for_it(self, error):
        assert not is_out_of_memory(error)


class TestPaths:
    @pytest.mark.parametrize(
        "number",
        [errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP],
    )
    def test_a_path_that_cannot_be_used_is_bad_input(self, ended, number):
        code, said = ended(OSError(number, os.strerror(number), "a/b.h5"))
        long = number == errno.ENAMETOOLONG
        remedy = "Use a shorter name or path" if long else "Check the path and its permissions"
        assert (code, said) == (2, f"error: a/b.h5: {os.strerror(number)}. {remedy}.\n")

    @pytest.mark.parametrize("number, remedy", [(errno.ENOSPC, "Free some space"), (errno.EIO, "Check the disk")])
    def test_a_disk_that_fails_is_a_failure_with_or_without_a_path(self, ended, number, remedy):
        for error in (OSError(number, os.strerror(number), "x"), OSError(number, os.strerror(number))):
            code, said = ended(error)
            assert code == 1
            assert f"{os.strerror(number)}; nothing was published. {remedy}" in said

    @pytest.mark.parametrize(
        "bug",
        [
            RuntimeError("shape mismatch"),
            KeyError("x"),
            OSError("no number"),
            UnicodeEncodeError("ascii", "é", 0, 1, ""),
        ],
    )
    def test_a_bug_keeps_its_traceback(self, bug):
        with pytest.raises(type(bug)), exit_codes():
            raise bug


class TestNames:
    def test_a_word_that_is_not_utf_8(self, capsys, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["alseg", "inspect", os.fsdecode(b"caf\xe9.h5")])
        for name in (
            "open_standard_streams",
            "end_quietly",
        ):  # they change streams and signals of this process for good
            monkeypatch.setattr(app, name, lambda: None)
        with pytest.raises(SystemExit) as stopped:
            app.main()
        assert stopped.value.code == 2
        assert capsys.readouterr().err == "error: caf\\xe9.h5 is not UTF-8. Rename the file.\n"

    def test_a_name_that_came_from_a_folder_and_cannot_be_recorded(self, ended):
        with pytest.raises(UnicodeEncodeError) as refused:
            ('{"file": "' + os.fsdecode(b"caf\xe9.h5") + '"}').encode()
        code, said = ended(refused.value)
        assert code == 2
        assert "caf\\\\xe9.h5" in said or "caf\\xe9.h5" in said
        assert "is not UTF-8" in said

    def test_all_files_of_a_dataset_with_such_names_are_listed(self, tmp_path):
        for name in (b"a.png", b"caf\xe9.png", b"\xff.png"):
            with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
                Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
        classes = [{"name": "x", "color": [0, 0, 0]}]
        described = {"name": "own", "classes": classes, "splits": {"train": {"images": "{id}.png"}}}
        _, faults = find_samples(DatasetDescription.model_validate(described), tmp_path)
        assert faults == [
            f"The name of {tmp_path}/caf\\xe9.png is not UTF-8. Rename the file.",
            f"The name of {tmp_path}/\\xff.png is not UTF-8. Rename the file.",
        ]
