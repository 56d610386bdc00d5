"""TOML of others: what the parser would choke on is refused with a sentence before or after it is parsed."""

import pytest

from stages.datasets.description import load_description
from stages.recipes.profile import load_profile
from stages.recipes.recipe import load_recipe
from stages.runtime.errors import BadInput
from stages.settings.toml_files import MOST_BYTES, MOST_DEPTH, read_toml

READERS = {"dataset": load_description, "recipe": load_recipe, "profile": load_profile}
HOSTILE = {
    "a dotted key": (".".join(["a"] * (MOST_DEPTH + 8)) + " = 1", "nests tables or lists more than 32 deep"),
    "a dotted key of 100 kB": (".".join(["a"] * 50_000) + " = 1", "nests tables or lists more than 32 deep"),
    "a quoted dotted key": (' . '.join(['"a b"', "'c'"] * 20) + " = 1", "nests tables or lists more than 32 deep"),
    "a dotted table": ("[" + ".".join(["a"] * 50_000) + "]", "nests tables or lists more than 32 deep"),
    "nested lists": ("a = " + "[" * 40 + "]" * 40, "nests tables or lists more than 32 deep"),
    "lists nested beyond the stack": ("a = " + "[" * 50_000 + "]" * 50_000, "nests tables or lists"),
    "nested tables": ("a = " + "{a = " * 40 + "1" + "}" * 40, "nests tables or lists more than 32 deep"),
    "a long key": ("a" * 100_000 + " = 1", "is longer than 200 characters"),
    "a long number": ("a = " + "9" * 10_000, "is not valid TOML"),
    "NUL in a text": ('title = "a\\u0000b"', "title contains the character NUL. Remove it."),
    "NUL in a list": ('plugins = ["x\\u0000.py"]', "plugins.0 contains the character NUL. Remove it."),
    "NUL in a key": ('"a\\u0000" = 1', "contains the character NUL"),
    "NUL in a pattern": ('[splits.train]\nimages = "\\u0000{id}.png"', "images contains the character NUL"),
    "a large file": ("# " + "x" * MOST_BYTES, "is larger than 1 MiB"),
}  # fmt: skip


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("text, says", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_one_sentence(read, text, says, tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        read(str(path))
    (fault,) = refused.value.faults
    assert fault.startswith(f"{path}")
    assert says in fault
    assert len(fault) < 400


def test_honest_files_are_read(tmp_path):
    """Long lists, prose full of dots and deep but honest tables."""
    path = tmp_path / "x.toml"
    dots = ". " * 500 + "e.g. this, i.e. that; " * 100
    path.write_text(f'notes = "{dots}"\nvalues = {list(range(60_000))}\n[a.b."c d".e]\nf = [[1, 2], [3.5, 4.5]]\n')
    values = read_toml(path)
    assert values["notes"] == dots
    assert values["a"]["b"]["c d"]["e"]["f"][1] == [3.5, 4.5]
    assert len(values["values"]) == 60_000


def test_a_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        read_toml(tmp_path)
