"""The stage `export-queries`: open queries as a file for people and other tools, a table of pixels or image names."""

import csv
import io
from pathlib import Path

import numpy as np

from stages.artifacts.publish import output_lock, publish_bytes
from stages.artifacts.queries import Queries
from stages.console import say
from stages.errors import BadInput

COLUMNS = ("query", "image", "y", "x", "class", "seconds", "annotator")


def run(queries: Path, output: Path) -> Path:
    """Writes one row per pixel query, image by image, with empty `class`, `seconds` and `annotator`.

    `query` is the rank, which `import-answers` checks together with image, y and x. Of queries of images it writes the
    ids in rank order, see `image_names`. Raises BadInput rather than replace a file, for it may be this very table with
    the answers in it.
    """
    with Queries(queries) as asked:
        if asked.unit == "image":
            content, told = image_names(asked, output), "images in rank order"
        else:
            asked.require_pixels()
            content, told = pixel_table(asked), "queries to answer in column class"
    with output_lock(output):
        if output.exists():
            if output.is_file() and output.read_bytes() == content:
                say(f"{output} is up to date")
                return output
            raise BadInput(f"{output} exists and may hold answers; remove it or choose another output.")
        publish_bytes(output, content)
    say(f"wrote {output}: {len(asked)} {told}")
    return output


def pixel_table(queries: Queries) -> bytes:
    """The CSV table of pixel queries."""
    order = sorted(range(len(queries)), key=lambda row: (queries.image[row], queries.y[row], queries.x[row]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in order:
        writer.writerow([row, queries.ids[queries.image[row]], queries.y[row], queries.x[row], "", "", ""])
    return text.getvalue().encode()


def image_names(queries: Queries, output: Path) -> bytes:
    """The ids of the asked images: a one-dimensional NumPy array of text (.npy), or one per line (.txt).

    (spec als4gan.md 2.4: the array is what the public code reads)
    """
    names = [queries.ids[index] for index in queries.image]
    if output.suffix == ".txt":
        return "".join(f"{name}\n" for name in names).encode()
    if output.suffix != ".npy":
        raise BadInput(
            f"{queries.path} asks about images, whose names are written as an array or a list; end the output's name "
            f"in .npy or .txt, not as {output.name!r}."
        )
    array = io.BytesIO()
    np.save(array, np.array(names, dtype=np.str_), allow_pickle=False)
    return array.getvalue()
