"""How much of the runs a page shows, so that neither its size nor its time grows with their number."""

from dataclasses import dataclass

from stages.reporting.pictures.labels import counted
from stages.reporting.report.pictures import WIDEST, WIDEST_OF_MANY

MOST_ROUNDS = 5  # per run; of more, evenly spread ones including the first and the last
MOST_PICTURES = 300  # of a page: of many runs fewer rounds are shown, then fewer images
MANY_PICTURES = 150  # from so many on they are smaller


@dataclass(frozen=True)
class Extent:
    """How much of each run is shown, and of how many runs; `widest` is the width of a picture in pixels."""

    runs: int
    rounds: int
    images: int
    widest: int

    @classmethod
    def of(cls, runs: int, images: int) -> "Extent":
        """As much of ``runs`` with ``images`` each as a page takes whose size does not grow with them."""
        images = max(images, 1)
        less = [(rounds, images) for rounds in (MOST_ROUNDS, 3, 2, 1)]
        less += [(1, number) for number in range(images - 1, 0, -1)]
        # per image and round queries, answers, prediction and errors; once per image the image and the truth
        wanted = [(rounds, number, number * (4 * rounds + 2)) for rounds, number in less]
        fitting = [each for each in wanted if runs * each[2] <= MOST_PICTURES]
        rounds, number, pictures = (fitting or wanted[-1:])[0]
        shown = min(runs, MOST_PICTURES // pictures)
        return cls(shown, rounds, number, WIDEST_OF_MANY if shown * pictures > MANY_PICTURES else WIDEST)

    def left_out(self, runs: int, images: int) -> str:
        """What is not shown, in a sentence; nothing where all is."""
        parts = [f"the first {self.runs} runs"] if self.runs < runs else []
        parts += [f"{counted(self.images, 'image')} of each run"] if self.images < images else []
        parts += (
            ["the last round" if self.rounds == 1 else f"{self.rounds} rounds"] if self.rounds < MOST_ROUNDS else []
        )
        if not parts:
            return ""
        return f"To keep the page small, overlays show {', '.join(parts)}. Report fewer runs at a time to see more."
