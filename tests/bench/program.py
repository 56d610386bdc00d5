"""How fast the program answers."""

import os

from tests.bench.measure import ALSEG, Job, Row, measure, run

HEAVY = ("torch", "cv2")
IMPORTED = f"""
import contextlib, io, sys
sys.argv = ["alseg", "--help"]
from alseg_cli.app import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print([name for name in {HEAVY} if name in sys.modules])
"""


def rows(job: Job) -> list[Row]:
    # as on any second call: with compiled bytecode, which some environments keep Python from writing
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(job.folder / "bytecode")
    help_time = measure(lambda: run([*ALSEG, "--help"], environment), 3 if job.quick else 7)
    imported = run([ALSEG[0], "-c", IMPORTED]).strip()
    return [
        Row("`alseg --help`, process start to end", help_time.text("s"), "below 0.5 s"),
        Row(f"of {' and '.join(HEAVY)}, imported for it", "none" if imported == "[]" else imported, "none"),
    ]
