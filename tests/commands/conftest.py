"""Tiny worlds built by the commands, copies of them for each test, and what tests do to them."""

import json
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import pytest

pytest.register_assert_rewrite("commands_support", "damage_support")

from commands_support import CHAIN, REGION_CHAIN, SETS_CHAIN, TRAIN, write_scenes  # noqa: E402
from damage_support import refuse  # noqa: E402

# What `program` runs: passes its words on to the test and prints what comes back.
CLIENT = """
import json, os, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall((json.dumps([os.getcwd(), *sys.argv[2:]]) + "\\n").encode())
code, out, err = json.loads(link.makefile().readline())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(code)
"""


@pytest.fixture
def program(preloaded):
    """A program for make that is `alseg` in a fork of one process that has imported everything."""

    class Answer(socketserver.StreamRequestHandler):
        def handle(self):
            folder, *words = json.loads(self.rfile.readline())
            done = preloaded.run(*words, cwd=Path(folder))
            self.wfile.write((json.dumps([done.code, done.out, done.err]) + "\n").encode())

    with tempfile.TemporaryDirectory(prefix="alseg-make-") as folder:  # a socket's path must be short
        client, door = Path(folder, "client.py"), Path(folder, "door")
        client.write_text(CLIENT)
        with socketserver.UnixStreamServer(str(door), Answer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"{sys.executable} -S {client} {door}"
            server.shutdown()


@pytest.fixture(scope="session")
def world(tmp_path_factory, preloaded) -> Path:
    """A folder with every artifact of two rounds, never changed by a test."""
    folder = tmp_path_factory.mktemp("world")
    write_scenes(folder / "tiny.toml")
    for step in CHAIN.values():
        preloaded.run(*step.words, cwd=folder).expect(0, out="wrote")
    return folder


@pytest.fixture
def place(world, tmp_path) -> Path:
    """The test's own copy of the world; commands run in it, with file names relative to it."""
    folder = tmp_path / "place"
    shutil.copytree(world, folder)
    return folder


@pytest.fixture
def refused(place, preloaded):
    """``refused(words..., says=text)``: the command exits 2, says the text, and changes nothing in the folder."""

    return partial(refuse, preloaded, place)


@pytest.fixture(scope="session")
def region_world(tmp_path_factory, preloaded, world) -> Path:
    """The world with two rounds on regions, the second on merged ones; never changed by a test."""
    folder = tmp_path_factory.mktemp("regions") / "world"
    shutil.copytree(world, folder)
    for step in REGION_CHAIN.values():
        preloaded.run(*step.words, cwd=folder).expect(0, out="wrote")
    return folder


@pytest.fixture
def region_place(region_world, tmp_path) -> Path:
    """The test's own copy of the world of regions."""
    folder = tmp_path / "place"
    shutil.copytree(region_world, folder)
    return folder


@pytest.fixture(scope="session")
def sets_world(tmp_path_factory, preloaded, world) -> Path:
    """The world with two rounds of answers that name classes together; never changed by a test."""
    folder = tmp_path_factory.mktemp("sets") / "world"
    shutil.copytree(world, folder)
    for step in SETS_CHAIN.values():
        preloaded.run(*step.words, cwd=folder).expect(0, out="wrote")
    return folder


@pytest.fixture
def sets_place(sets_world, tmp_path) -> Path:
    """The test's own copy of the world of class sets."""
    folder = tmp_path / "place"
    shutil.copytree(sets_world, folder)
    return folder


@pytest.fixture(scope="session")
def other_model(tmp_path_factory, preloaded, world) -> Path:
    """Another model of the same classes."""
    model = tmp_path_factory.mktemp("other_model") / "n.safetensors"
    preloaded.run(*TRAIN, "--seed", "1", "--epochs", "1", "-o", model, cwd=world).expect(0, out="wrote")
    return model


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(options)`` mounts a tmpfs, ``small_disk(options)`` again changes its limits."""
    folder = tmp_path / "disk"

    def mount(options: str) -> Path:
        remount = "remount," if folder.exists() else ""
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", remount + options, "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            folder.rmdir()
            pytest.skip(f"a small disk needs the right to mount a tmpfs: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.exists():
        subprocess.run(["umount", folder], check=True)
