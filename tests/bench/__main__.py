"""``python -m tests.bench``: measures everything and rewrites the section in docs/benchmarks.md."""

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

GROUPS = {
    "program": "The program",
    "acquisition": "Score and select from logits, per image, one thread",
    "regions": "Regions, per image of 1024x2048 with 19 classes",
    "class_sets": "Class sets, per image of 1024x2048 with 2048 regions",
    "clusters": "Clusters, per image of 256x512 with 19 classes and 512 regions",
    "images": "Images as units",
    "interchange": "Queries and answers in files of other tools",
    "datasets": "Datasets",
    "large": "Large images, and the peak memory of a command on them",
    "scale": "Many images and regions",
    "maps": "Score maps of many images",
    "training": "The training loop",
    "loading": "Training on more images than fit into memory",
    "openmp": "Waiting threads of OpenMP",
    "memory": "Peak memory of a command, resident in the host",
    "growth": "Peak memory as images become more",
}


def main() -> None:
    """Measures the groups, prints the report, and writes it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to see that it works; writes nothing")
    parser.add_argument("--only", nargs="+", choices=GROUPS, help="some of the groups; the others keep their tables")
    arguments = parser.parse_args()
    writes = not arguments.quick
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")  # as `alseg` does; it counts when torch is loaded

    from tests.bench.measure import Job
    from tests.bench.report import DOCUMENT, environment, replace_blocks, replace_section, section

    if writes:
        replace_section(DOCUMENT.read_text(), "")  # tells now, not after minutes, if there is no place for the results
    began = time.monotonic()
    machine = environment("make bench" if len(sys.argv) == 1 else " ".join(["python -m tests.bench", *sys.argv[1:]]))
    found = {}
    with tempfile.TemporaryDirectory(prefix="alseg-bench-") as folder:
        for name in arguments.only or GROUPS:
            print(f"{GROUPS[name]} ...", file=sys.stderr, flush=True)
            found[GROUPS[name]] = import_module(f"tests.bench.{name}").rows(Job(Path(folder), arguments.quick))
            print(f"  {time.monotonic() - began:.0f} s so far", file=sys.stderr, flush=True)
    text = section(found, machine)
    print(text)
    if writes:
        document = DOCUMENT.read_text()
        updated = replace_blocks(document, found, machine) if arguments.only else replace_section(document, text)
        DOCUMENT.write_text(updated)
        print(f"\nwrote {DOCUMENT}")


if __name__ == "__main__":
    main()
