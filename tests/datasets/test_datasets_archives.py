"""Archives: fetched, continued, checked and unpacked, or refused in one sentence that says what to do."""

import errno
import hashlib
import io
import os
import signal
import socket
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from archive_server import serving
from PIL import Image

from stages.commands.prepare import run
from stages.datasets import archives, downloading
from stages.datasets.archives import Archive, content_digest, fetch_archives
from stages.datasets.description import load_description
from stages.runtime.errors import BadInput, StageFailed, Stopped
from stages.settings.prepare import PrepareSettings

FILES = {"train/1.png": b"one", "train/2.png": b"two" * 1000, "val/3.png": b"three", "other/4.png": b"four"}


def packed(files: dict[str, bytes] = FILES, inside: str = "top/", mode: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(inside + name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def zipped(files: dict[str, bytes] = FILES) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("top/", b"")
        for name, data in files.items():
            archive.writestr(f"top/{name}", data)
    return content.getvalue()


def described(host: str, data: bytes, **keys: Any) -> Archive:
    wanted = {"md5": hashlib.md5(data).hexdigest()} if not keys.keys() & {"md5", "sha256", "content"} else {}
    values = {"url": f"{host}/data.tar.gz", "size": len(data), "inside": "top", "takes": ["train", "val"]}
    return Archive.model_validate(values | wanted | keys)


def below(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


@pytest.mark.parametrize("content", [packed(), packed(mode="w"), packed(mode="w:xz"), zipped()], ids=range(4))
def test_what_is_taken_lies_in_place_and_a_second_call_fetches_nothing(content, tmp_path):
    with serving({"data.tar.gz": content}) as served:
        archive = described(served.url, content, to="deep/er")
        fetch_archives((archive,), tmp_path / "root")
        fetch_archives((archive,), tmp_path / "root")
    assert served.requested == [("/data.tar.gz", None)]
    expected = {f"deep/er/{name}": data for name, data in FILES.items() if not name.startswith("other")}
    assert below(tmp_path / "root") == expected | {"data.tar.gz": content}


def test_an_archive_that_was_put_there_by_hand_is_not_fetched(tmp_path):
    content = packed()
    (tmp_path / "data.tar.gz").write_bytes(content)
    fetch_archives((described("http://127.0.0.1:1", content),), tmp_path)
    assert (tmp_path / "train/2.png").read_bytes() == FILES["train/2.png"]


def test_what_is_there_is_kept_and_the_rest_is_unpacked(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train/own.png").write_bytes(b"own")
    content = packed()
    (tmp_path / "data.tar.gz").write_bytes(content)
    fetch_archives((described("http://127.0.0.1:1", content),), tmp_path)
    assert set(below(tmp_path)) == {"train/own.png", "val/3.png", "data.tar.gz"}


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_is_continued_or_begun_again(ranges, tmp_path):
    content = packed({"train/1": os.urandom(5000), "val/2": b"2"})
    with serving({"data.tar.gz": content}, breaks_after=2000, ranges=ranges) as served:
        archive = described(served.url, content)
        with pytest.raises(
            StageFailed, match=rf"the connection ended after 2000 of {len(content)} bytes. Run the same"
        ):
            fetch_archives((archive,), tmp_path)
        assert set(below(tmp_path)) == {"data.tar.gz.part"}
        assert (tmp_path / "data.tar.gz.part").read_bytes() == content[:2000]
        fetch_archives((archive,), tmp_path)
    assert served.requested == [("/data.tar.gz", None), ("/data.tar.gz", "bytes=2000-")]
    assert set(below(tmp_path)) == {"train/1", "val/2", "data.tar.gz"}


def test_a_part_that_is_complete_needs_no_body(tmp_path):
    content = packed()
    (tmp_path / "data.tar.gz.part").write_bytes(content)
    with serving({"data.tar.gz": content}) as served:
        fetch_archives((described(served.url, content),), tmp_path)
    assert (tmp_path / "val/3.png").exists()


def test_a_signal_keeps_the_part(tmp_path, monkeypatch):
    content = packed({"train/1": os.urandom(5000), "val/2": b"2"})
    write = downloading.write

    def stopped(*arguments: Any) -> None:
        write(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(downloading, "BLOCK", 1000)
    monkeypatch.setattr(downloading, "write", stopped)
    with serving({"data.tar.gz": content}) as served:
        archive = described(served.url, content)
        with pytest.raises(Stopped, match=r"data.tar.gz.part is kept, run the same command to continue"):
            fetch_archives((archive,), tmp_path)
        assert (tmp_path / "data.tar.gz.part").stat().st_size == 1000
        monkeypatch.setattr(downloading, "write", write)
        fetch_archives((archive,), tmp_path)
    assert served.requested[-1] == ("/data.tar.gz", "bytes=1000-")


def test_a_wrong_checksum_of_a_download_removes_it(tmp_path):
    with serving({"data.tar.gz": b"another file"}) as served:
        archive = described(served.url, packed(), md5="0" * 32)
        found = hashlib.md5(b"another file").hexdigest()
        with pytest.raises(BadInput) as caught:
            fetch_archives((archive,), tmp_path)
    assert str(caught.value) == (
        f"{served.url}/data.tar.gz: the checksum is {found}, not {'0' * 32}: the file is damaged or was changed. Run "
        f"the same command again, or put the file at {tmp_path}/data.tar.gz by hand (MD5 {'0' * 32})."
    )
    assert below(tmp_path) == {}


def test_a_wrong_checksum_of_a_file_put_there_by_hand_keeps_it(tmp_path):
    (tmp_path / "data.tar.gz").write_bytes(b"mine")
    with pytest.raises(
        BadInput, match=r"data\.tar\.gz: the checksum is \w{64}, not 0{64}: .* Remove it\. Run the same"
    ):
        fetch_archives((described("http://127.0.0.1:1", b"x", sha256="0" * 64),), tmp_path)
    assert below(tmp_path) == {"data.tar.gz": b"mine"}


def test_the_checksum_of_the_content_is_of_sorted_names_and_bytes_and_the_packing_does_not_matter(tmp_path):
    taken = sorted((name, data) for name, data in FILES.items() if not name.startswith("other"))
    lines = "".join(f"{name}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in taken)
    expected = hashlib.sha256(lines.encode()).hexdigest()
    for folder, content in {"a": packed(), "b": zipped(dict(reversed(FILES.items())))}.items():
        with serving({"data.tar.gz": content}) as served:
            fetch_archives((described(served.url, content, content=expected),), tmp_path / folder)
        (tmp_path / folder / "data.tar.gz").unlink()
        assert content_digest(tmp_path / folder) == expected


def test_wrong_content_leaves_nothing(tmp_path):
    content = packed()
    with serving({"data.tar.gz": content}) as served:
        archive = described(served.url, content, content="0" * 64)
        with pytest.raises(BadInput, match=r"the checksum of its content is \w{64}, not 0{64}\. It was removed\. Run"):
            fetch_archives((archive,), tmp_path)
    assert below(tmp_path) == {}


def link(name: str, kind: bytes, target: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        tar.addfile(entry)
    return content.getvalue()


def zip_link() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        entry = zipfile.ZipInfo("top/train/1.png")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return content.getvalue()


HOSTILE = [
        (packed({"../../evil": b"x"}), r"'top/\.\./\.\./evil' leads out of the folder"),
        (packed({"train/../../../evil": b"x"}), "leads out of the folder"),
        (packed({"evil": b"x"}, inside="/"), "'/evil' leads out of the folder"),
        (link("top/train/1.png", tarfile.SYMTYPE, "/etc/passwd"), "is a link or device"),
        (link("top/train/1.png", tarfile.LNKTYPE, "top/val/3.png"), "is a link or device"),
        (link("top/train/1.png", tarfile.FIFOTYPE, ""), "is a link or device"),
        (zip_link(), "is a link or device"),
        (packed({"train/1": b"0" * 100_000}), "more than 20 times as large"),
        (packed({"train/1": b"x"}), "contains no top/val"),
        (packed({"train/1": os.urandom(3000)})[:-200], "is damaged"),
        (b"no archive", "is not a tar or zip archive"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "sentence"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_or_damaged_archive_leaves_nothing_but_itself(content, sentence, tmp_path):
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    (root / "data.tar.gz").write_bytes(content)
    with pytest.raises(BadInput, match=sentence):
        fetch_archives((described("http://127.0.0.1:1", content),), root)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [root / "data.tar.gz"]


def test_a_link_beside_what_is_taken_does_not_matter(tmp_path):
    content = io.BytesIO(packed(mode="w"))
    with tarfile.open(fileobj=content, mode="a") as tar:
        entry = tarfile.TarInfo("top/other/link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(entry)
    (tmp_path / "data.tar.gz").write_bytes(content.getvalue())
    fetch_archives((described("http://127.0.0.1:1", content.getvalue()),), tmp_path)
    assert (tmp_path / "val/3.png").exists()


def test_without_network_one_sentence_says_where_from_where_to_and_the_checksum(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(StageFailed) as caught:
        fetch_archives((described(url, packed(), md5="6" * 32),), tmp_path)
    assert str(caught.value) == (
        f"Cannot download {url}/data.tar.gz: [Errno 111] Connection refused. Run the same command again, or put the "
        f"file at {tmp_path}/data.tar.gz by hand (MD5 {'6' * 32})."
    )


def test_a_file_that_the_server_does_not_have(tmp_path):
    with serving({}) as served, pytest.raises(StageFailed, match=r"the server answers 404 Not Found. Run the same"):
        fetch_archives((described(served.url, packed()),), tmp_path)
    assert below(tmp_path) == {}


def test_a_full_disk_while_fetching_and_while_unpacking(tmp_path, monkeypatch):
    content = packed()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with serving({"data.tar.gz": content}) as served:
        archive = described(served.url, content)
        with monkeypatch.context() as patched:
            patched.setattr(archives.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
            with pytest.raises(StageFailed, match=r"Downloading data\.tar\.gz needs about .* Free some space"):
                fetch_archives((archive,), tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(archives.shutil, "copyfileobj", full)
            with pytest.raises(StageFailed, match=r"Cannot unpack .*: No space left on device. Free some space"):
                fetch_archives((archive,), tmp_path)
        assert below(tmp_path) == {"data.tar.gz": content}
        fetch_archives((archive,), tmp_path)
    assert (tmp_path / "train/1.png").exists()


@pytest.mark.parametrize(
    "keys",
    [{"md5": "0" * 32, "sha256": "0" * 64}, {"md5": "0" * 31}, {"url": "file:///etc/passwd"}, {"takes": ["../x"]},
     {"takes": []}, {"size": 0}, {"to": "/tmp"}],
)  # fmt: skip
def test_archives_that_no_description_may_list(keys):
    with pytest.raises(ValueError):  # noqa: PT011
        described("http://127.0.0.1:1", b"x", **keys)


def test_one_checksum_is_needed():
    with pytest.raises(ValueError, match="Set one of them"):
        Archive.model_validate({"url": "http://a/b.tar", "size": 1, "takes": ["x"]})


def test_the_checksums_are_those_of_torchvision():
    from torchvision.datasets.sbd import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    voc, sbd = load_description("voc2012-aug").archives
    assert load_description("voc2012").archives == (voc,)
    theirs = DATASET_YEAR_DICT["2012"]
    assert (voc.url, voc.md5, voc.inside) == (theirs["url"], theirs["md5"], theirs["base_dir"])
    assert (sbd.url, sbd.md5) == (SBDataset.url, SBDataset.md5)


@pytest.mark.shared
def test_the_names_that_camvid_takes_are_those_of_the_real_data(shared):
    (archive,) = load_description("camvid").archives
    assert sorted(archive.takes) == sorted(folder.name for folder in (shared / "camvid").iterdir())
    assert sum(len(list((shared / "camvid" / name).iterdir())) for name in archive.takes) == 1402


def description(folder: Path, url: str, content: bytes) -> Path:
    path = folder / "own.toml"
    path.write_text(
        f"""name = "own"
classes = [{{ name = "a", color = [0, 0, 0] }}]
[[archives]]
url = "{url}/data.tar.gz"
size = {len(content)}
md5 = "{hashlib.md5(content).hexdigest()}"
inside = "top"
takes = ["images"]
[splits.train]
images = "images/{{id}}.png"
"""
    )
    return path


def test_prepare_downloads_once_and_the_output_stays_up_to_date(tmp_path, capsys):
    picture = io.BytesIO()
    Image.new("RGB", (9, 8)).save(picture, "PNG")
    content = packed({"images/a.png": picture.getvalue()})
    with serving({"data.tar.gz": content}) as served:
        own = description(tmp_path, served.url, content)
        for settings in (PrepareSettings(download=True), PrepareSettings(download=True), PrepareSettings()):
            run(str(own), tmp_path / "root", tmp_path / "own.h5", settings)
    assert len(served.requested) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"downloading {served.url}/data.tar.gz: 0.0 MB",
        f"unpacked {tmp_path}/root/data.tar.gz, which is not needed any more",
        f"{tmp_path}/own.h5 will take about 0 MB",
        f"wrote {tmp_path}/own.h5: 1 train images",
        f"{tmp_path}/own.h5 is up to date",
        f"{tmp_path}/own.h5 is up to date",
    ]


@pytest.mark.parametrize("name", ["cityscapes", "deepglobe", "ucm-dlrsd"])
def test_datasets_behind_a_login_say_what_to_do(name, tmp_path):
    with pytest.raises(BadInput, match=rf"^{name} cannot be downloaded automatically\. .*pass .* with --root\.$"):
        run(name, tmp_path, tmp_path / "x.h5", PrepareSettings(download=True))


def test_generated_datasets_need_no_download(tmp_path):
    with pytest.raises(BadInput, match=r"The description of scenes lists no archives. Omit --download."):
        run("scenes", None, tmp_path / "x.h5", PrepareSettings(download=True))
