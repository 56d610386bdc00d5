"""Parts of an installed package are found by its entry points, and recorded with its name and version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = '''
from stages.scoring.measures import measure
from stages.selecting.rules import rule


@measure("gini")
def gini(logits):
    """1 - sum p^2."""
    return 1 - logits.softmax(1).square().sum(1)


@rule("first")
def first(pool, budget, settings, generator):
    """The first of the pool."""
    return range(budget)
'''
PROGRAM = """
import stages
part = stages.MEASURES["gini"]
print(sorted(set(stages.MEASURES.names()) & {"gini", "margin"}), part.origin.name, part.origin.version, part.about)
print(stages.RULES["first"].origin.file.name, len(stages.RULES["first"].origin.digest))
"""


def install(folder, entry="gini = alseg_gini"):
    """A package as pip would leave it: a module, and what it says about itself."""
    (folder / "alseg_gini.py").write_text(MODULE)
    info = folder / "alseg_gini-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: alseg-gini\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("alseg_gini\n")
    (info / "RECORD").write_text("alseg_gini.py,,\n")
    (info / "entry_points.txt").write_text(f"[alseg.measures]\n{entry}\n[alseg.rules]\n{entry}\n")
    return folder


def run(program, folder):
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_parts_of_an_installed_package_are_found_and_recorded(tmp_path):
    done = run(PROGRAM, install(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["['gini', 'margin'] alseg-gini 1.2 1 - sum p^2.", "alseg_gini.py 64"]


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_named(tmp_path):
    done = run("import stages; stages.MEASURES.names()", install(tmp_path, "gini = alseg_gnii"))
    assert done.returncode != 0
    assert (
        "The plug-in alseg_gnii cannot be imported: No module named 'alseg_gnii'. Update or remove it." in done.stderr
    )
