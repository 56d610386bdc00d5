"""Score and select from logits, per image on one thread."""

import numpy as np
import torch

from stages.runtime.parts import MEASURES, RULES
from stages.runtime.randomness import stream
from stages.scoring.measuring import plain_measure
from stages.selecting.candidates import Candidates
from stages.selecting.chooser import Chooser
from stages.selecting.rules import FractionSettings
from tests.bench.measure import SEED, Job, Row, measure

SHAPES = ((11, 360, 480), (19, 256, 512))
PLAIN = [part.name for part in MEASURES.parts() if not part.facts["passes"]]
TARGETS = {("margin", SHAPES[0]): "at most 10 ms"}
PUBLIC = {("margin", SHAPES[0]): "68 ms", ("entropy", SHAPES[0]): "33 ms"}


def rows(job: Job) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [score_and_select(name, shape, 5 if job.quick else 50) for shape in SHAPES for name in PLAIN]
    finally:
        torch.set_num_threads(threads)


def score_and_select(name: str, shape: tuple[int, int, int], repeat: int) -> Row:
    """A later round: 20 pixels of the image were queried before, 10 are drawn from the highest 5 %."""
    logits = 3 * torch.randn(1, *shape, generator=torch.Generator().manual_seed(SEED))
    excluded = np.zeros(shape[1:], dtype=bool)
    excluded.flat[stream(SEED, "queried").choice(excluded.size, 20, replace=False)] = True

    measured, chooser = plain_measure(name), Chooser(RULES["pool"], FractionSettings(), 0, SEED)

    def work() -> None:
        with torch.inference_mode():
            scores = measured(logits)[0].numpy().ravel()
        left = np.flatnonzero(~excluded.ravel())
        image = np.broadcast_to(np.int64(0), len(left))
        pool = Candidates(unit="pixel", scores=scores[left], image=image, total=len(scores))
        chooser.positions(pool, 10, "image")

    what = f"{name}, 10 pixels from the highest 5 %, {'x'.join(map(str, shape))}"
    taken = measure(work, repeat).text("ms", 1e3)
    return Row(what, taken, TARGETS.get((name, shape), ""), PUBLIC.get((name, shape), ""))
