"""``python -m tests.reference [--check]``."""

import argparse
import sys

from tests.reference.files import ROOT, stale, wanted


def main() -> None:
    reader = argparse.ArgumentParser(
        prog="python -m tests.reference",
        description="Write docs/reference and the table of commands in README.md.",
    )
    reader.add_argument("--check", action="store_true", help="Write nothing; exit 1 if a file is not current.")
    check = reader.parse_args().check
    texts = wanted(ROOT)
    old = stale(texts)
    for path in old:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'not current; run `make docs`' if check else 'written'}")
    sys.exit(1 if check and old else 0)


if __name__ == "__main__":
    main()
