"""Location of the shipped descriptions and recipes: inside the installed package, beside it in a checkout."""

from pathlib import Path

from stages.runtime.errors import BadInput
from stages.runtime.spelling import did_you_mean

LISTED_BY = {
    "recipes": "alseg recipes", "profiles": "alseg profiles", "datasets": "alseg datasets", "tables": "alseg reproduce"
}  # fmt: skip


def data_folder(name: str) -> Path:
    """The folder ``data/<name>`` of this installation."""
    packaged = Path(__file__).parents[1] / "data"
    root = packaged if packaged.is_dir() else Path(__file__).parents[2] / "data"
    return root / name


def find_toml(kind: str, name_or_path: str) -> Path:
    """The TOML file called ``name_or_path``: a shipped one by name (``camvid``), any other by path.

    Raises BadInput, listing the shipped ones, if there is no such file.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if path.is_file():
            return path
        raise BadInput(f"There is no file {path}. Pass the path of a TOML file or a shipped name.")
    path = data_folder(kind) / f"{name_or_path}.toml"
    if path.is_file():
        return path
    names = sorted(file.stem for file in data_folder(kind).glob("*.toml"))
    remedy = f"Choose one of {', '.join(names)}, or pass a TOML file."
    if asked := did_you_mean(name_or_path, names):
        remedy = f"{asked} `{LISTED_BY[kind]}` lists all." if kind in LISTED_BY else asked
    raise BadInput(f"Unknown {kind[:-1]} {name_or_path!r}. {remedy}")
