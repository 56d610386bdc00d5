"""`alseg compare --leaderboard`: adds runs to a leaderboard, and compares recipes with chance."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from stages.artifacts.request import publish_extra
from stages.evaluating.counts import ImageCounts
from stages.recipes.leaderboard_file import Board, Measurement, Results, Round, Written, read_board, write_board
from stages.recipes.leaderboard_page import page, pairs_of, told
from stages.recipes.leaderboard_picture import picture
from stages.recipes.recipe import random_partner
from stages.reporting.comparison import require_usable
from stages.reporting.measured import Measured
from stages.reporting.report.collect import Run, collect_runs, require_one_split
from stages.runtime.console import say
from stages.runtime.errors import BadInput


def update_leaderboard(runs: list[Path], output: Path, checkpoint: str, evaluation: str) -> None:
    """Adds ``runs`` to the leaderboard ``output``, with its page and picture beside it, and says how the pairs compare.

    A run that is there already is replaced. Raises BadInput for runs without evaluations, and for those that were
    measured in another way than what is there.
    """
    if output.suffix != ".json":
        raise BadInput(f"--leaderboard {output}: the name must end in .json. The page is written beside it as .md.")
    found = collect_runs(runs, checkpoint, evaluation)
    for run in found:
        require_usable(run.measured, run.damaged, run.folder, checkpoint, evaluation)
    require_one_split(entry for run in found for entry in run.measured)
    board = read_board(output) if output.exists() else None
    for run in found:
        board = with_run(board, run, checkpoint, output)
    assert board is not None
    write_board(board, output)
    pairs = pairs_of(board)
    publish_extra(output.with_suffix(".png"), picture(board, pairs))
    publish_extra(output.with_suffix(".md"), page(board, pairs, output.name).encode())
    seeds = sum(len(each.seeds) for each in board.written.recipes.values())
    say(f"wrote {output}: {len(board.written.recipes)} recipes, {seeds} runs")
    for pair in pairs:
        print(told(pair))


def recipe_and_seed(run: Run) -> tuple[str, int]:
    """The recipe that a run is of, from its folder RECIPE-SEED or RECIPE, and its seed."""
    seed = max(run.seeds, default=0)  # what is made of the dataset alone has seed 0 in all runs
    return run.folder.resolve().name.removesuffix(f"-{seed}"), seed


def with_run(board: Board | None, run: Run, checkpoint: str, output: Path) -> Board:
    """``board``, or a new one, with ``run`` in the place of an older run of its recipe and seed."""
    recipe, seed = recipe_and_seed(run)
    entries = by_round(run)
    missing = [number for number, entry in entries.items() if entry.counts is None]
    if missing:
        raise BadInput(
            f"{run.folder}: the evaluation of round {missing[0]} has no pixel counts per image, since an older version "
            "wrote it. Remove the file and run its Makefile again."
        )
    counts = {(recipe, seed, number): entry.counts for number, entry in entries.items() if entry.counts is not None}
    first = next(iter(counts.values()))
    measured = Measurement(
        dataset=run.dataset_digest, split=run.measured[0].split, checkpoint=checkpoint, undefined=first.undefined
    )
    board = board or Board(Written(measured=measured), {})
    require_alike(board, measured, first, run.folder, output)
    old = board.written.recipes.get(recipe, Results(seeds=[], rounds=[]))
    rows = [row for row in old.rounds if row.seed != seed]
    rows += [as_row(run, seed, number, entry) for number, entry in entries.items()]
    rows.sort(key=lambda row: (row.seed, row.round))
    results = Results(
        seeds=sorted({*old.seeds, seed}),
        random=random_partner(recipe if run.plan is None else run.plan.recipe),
        rounds=rows,
    )
    recipes = dict(sorted((dict(board.written.recipes) | {recipe: results}).items()))
    kept = {key: each for key, each in board.counts.items() if key[:2] != (recipe, seed)}
    return replace(board, written=Written(measured=board.written.measured, recipes=recipes), counts=kept | counts)


def by_round(run: Run) -> dict[int, Measured]:
    """The evaluations of a run by round; one outside the rounds is of the last round."""
    last = max((node.round for node in run.nodes if node.round is not None), default=0)
    return {last if entry.round is None else entry.round: entry for entry in run.measured}


def as_row(run: Run, seed: int, number: int, entry: Measured) -> Round:
    model = run.by_digest.get(entry.model)
    which = "best" if model is not None and entry.epoch == model.header.counts.get("best_epoch") else "last"
    validated = None if model is None else model.header.counts.get(f"{which}_val_miou")
    return Round(
        seed=seed,
        round=number,
        clicks=entry.clicks,
        seconds=entry.seconds,
        miou_val=None if validated is None else round(100 * validated, 4),
        miou_test=round(entry.miou, 4),
    )


def require_alike(board: Board, measured: Measurement, counts: ImageCounts, folder: Path, output: Path) -> None:
    """BadInput for a run that was measured in another way than the rest of the leaderboard."""
    there = board.written.measured
    for name, value in measured.model_dump().items():
        if getattr(there, name) != value:
            raise BadInput(
                f"{folder} was measured with another {name} than {output} ({value[:12]}, not "
                f"{getattr(there, name)[:12]}). Choose another file for --leaderboard."
            )
    other = next(iter(board.counts.values()), counts)
    if other.images != counts.images or not np.array_equal(other.truth, counts.truth):
        raise BadInput(f"{folder} was evaluated on other images than {output}. Choose another file for --leaderboard.")
