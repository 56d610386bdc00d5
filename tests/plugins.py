"""Plug-in files in tests: loaded, and forgotten again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from programs import Preloaded

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


def train_again(
    preloaded: Preloaded, plugin: Path, dataset: Path, ledger: Path, output: Path, **settings: object
) -> str:
    """What `train` says in a new process that loads the plug-in."""
    options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    words = ("train", dataset, ledger, "--plugin", plugin, *options, "-o", output)
    done = preloaded.run(*words, cwd=output.parent).expect(0)
    return done.out + done.err
