"""``python -m tests.soak``: disturbs whole runs for a while and writes what came of it to docs/reliability.md."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.bench.measure import Row
from tests.bench.report import environment, replace_section
from tests.soak.disturbances import DISTURBANCES
from tests.soak.world import ROOT, World

DOCUMENT = ROOT / "docs" / "reliability.md"
RECIPES = {"adaptive-superpixel": ("select.budget=40",), "pixelpick": ()}  # and settings that fit the small scenes
MOST_DISTURBANCES = 12  # of one run, before it may end


def main() -> None:
    """Soaks the recipes in turn, prints the table, and writes it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    arguments = parser.parse_args()
    draw, counts = random.Random(arguments.seed), Counter[tuple[str, str]]()
    machine = environment(" ".join(["make soak" if len(sys.argv) == 1 else "python -m tests.soak", *sys.argv[1:]]))
    with tempfile.TemporaryDirectory(prefix="alseg-soak-") as folder:
        worlds = [World(Path(folder) / recipe, recipe, RECIPES[recipe]) for recipe in arguments.recipes]
        try:
            for world in worlds:
                world.folder.mkdir()
                world.prepare(rounds=2)
                print(f"{world.recipe}: {len(world.digests)} artifacts undisturbed", file=sys.stderr, flush=True)
            began, runs = time.monotonic(), 0
            while time.monotonic() - began < 60 * arguments.minutes:
                soak(worlds[runs % len(worlds)], draw, counts)
                runs += 1
                print(f"{runs} runs, {sum(counts.values())} counts", file=sys.stderr, flush=True)
        finally:
            for world in worlds:
                world.unmount()
    minutes = (time.monotonic() - began) / 60
    text = table(counts, runs, minutes, arguments.recipes, machine)
    print(text)
    if not arguments.dry:
        DOCUMENT.write_text(replace_section(DOCUMENT.read_text(), text))


def soak(world: World, draw: random.Random, counts: Counter[tuple[str, str]]) -> None:
    """One run under disturbances, from nothing to its end; SystemExit for what is lost, damaged or different."""
    world.mount()
    names = [
        name
        for name in DISTURBANCES
        if (name != "disk" or world.mounted) and (name != "lock" or shutil.which("gcc") is not None)
    ]
    for _ in range(MOST_DISTURBANCES):
        name = draw.choice(names)
        before = world.found()
        status = DISTURBANCES[name][0](world, draw)
        counts[name, "times"] += 1
        counts[name, "failed"] += status != 0
        lost = sorted(before.keys() - {str(path.relative_to(world.run)) for path in world.artifacts()})
        broken = [] if name == "bit" and status else world.damaged()
        require(not lost, f"{name}: {lost} are lost", world)
        require(not broken, f"{name}: {broken} are damaged", world)
    world.finish()
    found = world.found()
    wrong = sorted(path for path in world.digests if found.get(path) != world.digests[path])
    require(not wrong, f"{wrong} differ from the undisturbed run", world)
    require(not world.leftovers(), f"{world.leftovers()} are left over", world)
    counts["runs", "equal"] += 1


def require(holds: bool, sentence: str, world: World) -> None:
    if not holds:
        raise SystemExit(f"{world.recipe}, {sentence}.\n{world.tail()}")


def table(counts: Counter[tuple[str, str]], runs: int, minutes: float, recipes: list[str], machine: list[Row]) -> str:
    """The section of docs/reliability.md."""
    lines = ["| | |", "|---|---|", *(f"| {row.what} | {row.result} |" for row in machine)]
    lines += [f"| duration | {minutes:.0f} minutes |", f"| recipes | {', '.join(recipes)}, 2 rounds on 24 scenes |", ""]
    lines += ["| disturbance | times | make ended with an error |", "|---|---|---|"]
    lines += [
        f"| {what} | {counts[name, 'times']} | {counts[name, 'failed']} |" for name, (_, what) in DISTURBANCES.items()
    ]
    lines += ["", f"{counts['runs', 'equal']} of {runs} runs ended with the digests of the undisturbed run."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
