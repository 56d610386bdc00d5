"""The stage `export-queries`: open queries as a CSV table that people or other tools fill in."""

import csv
import io
from pathlib import Path

from stages.artifacts.publish import output_lock, publish_bytes
from stages.artifacts.queries import Queries
from stages.console import say
from stages.errors import BadInput

COLUMNS = ("query", "image", "y", "x", "class", "seconds", "annotator")


def run(queries: Path, output: Path) -> Path:
    """Writes one row per pixel query, image by image, with empty `class`, `seconds` and `annotator`.

    `query` is the rank, which `import-answers` checks together with image, y and x. Raises BadInput rather than replace
    a file, for it may be this very table with the answers in it.
    """
    with Queries(queries) as asked:
        asked.require_pixels()
        order = sorted(range(len(asked)), key=lambda row: (asked.image[row], asked.y[row], asked.x[row]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in order:
            writer.writerow([row, asked.ids[asked.image[row]], asked.y[row], asked.x[row], "", "", ""])
    content = text.getvalue().encode()
    with output_lock(output):
        if output.exists():
            if output.is_file() and output.read_bytes() == content:
                say(f"{output} is up to date")
                return output
            raise BadInput(f"{output} exists and may hold answers; remove it or choose another output.")
        publish_bytes(output, content)
    say(f"wrote {output}: {len(order)} queries to answer in column class")
    return output
