"""Plug-in files in tests: loaded, and forgotten again."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.runtime.parts import PLUGINS, REGISTRIES, load_plugin


@contextmanager
def loaded(path: Path, text: str) -> Iterator[Path]:
    """A plug-in file with this text, whose parts are registered within the context."""
    path.write_text(text)
    load_plugin(path)
    try:
        yield path
    finally:
        forget(path)


def forget(path: Path) -> None:
    """Takes the parts of a plug-in file out of the registries."""
    module = PLUGINS.pop(path.resolve())
    sys.modules.pop(module)
    for registry in REGISTRIES.values():
        own = [name for name, part in registry.found.items() if part.function.__module__ == module]
        for name in own:
            del registry.found[name]


def train_again(plugin: Path, dataset: Path, ledger: Path, output: Path, **settings: object) -> str:
    """What `train` says in a new process that loads the plug-in."""
    code = f"""
from pathlib import Path
from stages.runtime.parts import load_plugin
load_plugin({str(plugin)!r})
from stages.commands import train
from stages.settings.train import TrainSettings
train.run(Path({str(dataset)!r}), Path({str(ledger)!r}), Path({str(output)!r}), TrainSettings(**{settings!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
