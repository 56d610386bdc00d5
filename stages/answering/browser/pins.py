"""Where people answered in earlier rounds, to show them their own answers in an image."""

from collections import defaultdict

from stages.answering.questions import Questions
from stages.artifacts.annotations import Annotations
from stages.artifacts.answers import ANSWERED
from stages.pixels.void import VOID

UNNAMED = -1  # the class of a pin without one

Pins = dict[tuple[str, str], list[tuple[float, float, int]]]


def pins_of(ledger: Annotations, questions: Questions) -> Pins:
    """(y, x, class) of the pixels and regions in ``ledger``, by image and annotator, y and x in the image.

    Only images that are queried now, and classes that answers may name now; -1 = void, don't know, or several classes.
    """
    found: Pins = defaultdict(list)
    answers = ledger.answers
    for image in questions.rows:
        if image not in ledger.sizes:
            continue
        grid, size = ledger.sizes[image], questions.data.sizes[image]
        for row in ledger.rows_of(image).tolist():
            if answers.image_level[row] or answers.of_images[row]:
                continue
            y, x = int(answers.y[row]), int(answers.x[row])
            if answers.region[row] >= 0:
                runs = range(int(answers.areas.offsets[row]), int(answers.areas.offsets[row + 1]))
                run = runs[len(runs) // 2]
                place = int(answers.areas.start[run]) + int(answers.areas.length[run]) // 2
                y, x = divmod(place, grid[1])
            named = answers.state[row] == ANSWERED and answers.label[row] != VOID
            label = int(answers.label[row]) if named else UNNAMED
            person = ledger.annotators[answers.annotator[row]]
            found[image, person].append(((y + 0.5) * size[0] / grid[0], (x + 0.5) * size[1] / grid[1], label))
    return dict(found)
