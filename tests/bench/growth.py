"""Peak memory of each stage when there are many times as many images as in one of the parts that it writes."""

from tests.bench.measure import Job, Row
from tests.bench.memory import Case, megabytes, peaks_of_stages

CASES = (Case(64, 240, 320, 12), Case(448, 240, 320, 12))
QUICK_CASES = (Case(16, 64, 80, 12), Case(17, 64, 80, 12))


def rows(job: Job) -> list[Row]:
    cases = QUICK_CASES if job.quick else CASES
    few, many = (peaks_of_stages(job.folder / f"growth-{case.images}", case) for case in cases)
    first, second = cases
    images = f"{first.images} and {second.images} images of {first.width}x{first.height}"
    found = []
    for what, before in few.items():
        each = 1024 * (many[what] - before) / (second.images - first.images)
        result = f"{megabytes(before)} and {megabytes(many[what])}, {each / 1e3:.0f} kB per image more"
        found.append(Row(f"{what}, {images}", result))
    return found
