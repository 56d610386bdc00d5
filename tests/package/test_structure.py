"""Who may import whom. Files are parsed, not imported; an import inside a function or for types alone counts too."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# From the ground up: a room imports rooms before it
ROOMS = (
    "runtime", "settings", "registry", "pixels", "images", "artifacts", "datasets", "networks", "regions", "evaluating",
    "selecting", "scoring", "training", "pseudo_labelling", "answering", "predicting", "reporting", "recipes",
    "commands", "library", "stages", "alseg_cli",
)  # fmt: skip
# Rooms within a room and the neighbours they may import; all of them may import the files beside them
ANSWERING = {"": (), "simulated": (), "exchange": (), "browser": ("exchange",)}
OPENCV = ("stages/images/image_files.py", "stages/pixels/resize.py", "stages/regions/", "stages/answering/clicks.py")
MOST_LINES, MOST_LINES_OF_CLI = 500, 1000


@cache
def modules() -> dict[str, Path]:
    """Dotted name -> file, of all files of the project."""
    found = {}
    for folder in ("stages", "alseg_cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> frozenset[str]:
    """What a file imports, wherever it does: our own modules, and other modules by their full name."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}, line {node.lineno}: imports are absolute"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in names}
    return frozenset(found - {module})


@cache
def edges() -> list[tuple[str, str]]:
    """(file, file that it imports), as dotted names."""
    return [(module, other) for module in modules() for other in sorted(imports(module) & modules().keys())]


def room(module: str) -> str:
    """The room of a file: a folder or file of stages, or the package itself."""
    package, *inner = module.split(".")
    return inner[0] if package == "stages" and inner else package


def folder_within(module: str) -> str:
    """The folder of a file within its room, "" for those at the top of it."""
    is_package = modules()[module].name == "__init__.py"
    inner = module.split(".")[2:]
    return inner[0] if len(inner) > 1 or (inner and is_package) else ""


def listed(faults: list[str]) -> str:
    return "\n".join(["", *faults])


def test_every_room_is_in_the_list():
    assert {room(module) for module in modules()} <= {*ROOMS}


def test_no_circle_among_files():
    graph = {module: imports(module) & modules().keys() for module in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_room_imports_only_rooms_below_it():
    faults = [
        f"{module} imports {other}"
        for module, other in edges()
        if room(module) != room(other) and ROOMS.index(room(other)) > ROOMS.index(room(module))
    ]
    assert not faults, listed(faults)


def test_no_two_rooms_import_each_other():
    pairs = {(room(module), room(other)) for module, other in edges()}
    faults = [f"{one} and {other}" for one, other in combinations(ROOMS, 2) if {(one, other), (other, one)} <= pairs]
    assert not faults, listed(faults)


def test_rooms_within_answering():
    faults = []
    for module, other in edges():
        if room(module) == room(other) == "answering":
            here, there = folder_within(module), folder_within(other)
            if there not in ("", here, *ANSWERING[here]):
                faults.append(f"{module} imports {other}")
    assert not faults, listed(faults)


def test_stages_never_import_one_another():
    faults = [f"{module} imports {other}" for module, other in edges() if room(module) == room(other) == "commands"]
    assert not faults, listed(faults)


def test_stages_work_without_the_command_line():
    faults = [
        f"{module} imports {other}"
        for module in modules()
        for other in imports(module)
        if room(module) != "alseg_cli" and other.split(".")[0] in ("alseg_cli", "typer", "click")
    ]
    assert not faults, listed(faults)


def test_opencv_is_imported_where_images_are_read_cut_and_outlined():
    paths = {module: path.relative_to(ROOT).as_posix() for module, path in modules().items()}
    faults = [path for module, path in paths.items() if "cv2" in imports(module) and not path.startswith(OPENCV)]
    assert not faults, listed(faults)


def test_sizes():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules().values()}
    faults = [f"{path}: {count} lines" for path, count in lines.items() if count > MOST_LINES]
    assert not faults, listed(faults)
    assert sum(count for path, count in lines.items() if ROOT / "alseg_cli" in path.parents) < MOST_LINES_OF_CLI
