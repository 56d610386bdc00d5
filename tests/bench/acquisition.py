"""Score and select from logits, per image on one thread."""

import numpy as np
import torch

from stages.runtime.randomness import stream
from stages.scoring.measures import MEASURES
from stages.selecting.choice import RULES, choose_pixels
from tests.bench.measure import SEED, Job, Row, measure

SHAPES = ((11, 360, 480), (19, 256, 512))
TARGETS = {("margin", SHAPES[0]): "at most 10 ms"}
PUBLIC = {("margin", SHAPES[0]): "68 ms", ("entropy", SHAPES[0]): "33 ms"}


def rows(job: Job) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [score_and_select(name, shape, 5 if job.quick else 50) for shape in SHAPES for name in MEASURES]
    finally:
        torch.set_num_threads(threads)


def score_and_select(name: str, shape: tuple[int, int, int], repeat: int) -> Row:
    """A later round: 20 pixels of the image were asked before, 10 are drawn from the highest 5 %."""
    logits = 3 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(SEED))
    excluded = np.zeros(shape[1:], dtype=bool)
    excluded.flat[stream(SEED, "asked").choice(excluded.size, 20, replace=False)] = True

    def work() -> None:
        with torch.inference_mode():
            scores = MEASURES[name](logits)[0].numpy()
        choose_pixels(scores, excluded, 10, 0.05, RULES["pool"], stream(SEED, "select", 0, "image"))

    what = f"{name}, 10 pixels from the highest 5 %, {'x'.join(map(str, shape))}"
    taken = measure(work, repeat).text("ms", 1e3)
    return Row(what, taken, TARGETS.get((name, shape), ""), PUBLIC.get((name, shape), ""))
