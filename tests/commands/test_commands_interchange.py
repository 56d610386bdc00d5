"""Answers by way of other tools, by the real commands: the ledger of the simulation, kills, disks, two at once."""

import shutil
import signal

import numpy as np
import pytest
from commands_support import listing
from programs import wait_until

from stages.artifacts.annotations import Annotations

pytestmark = pytest.mark.slow

EXPORT = ("export-queries", "d.h5", "rq0.h5", "--superpixels", "r.h5")
IMPORT = ("import-answers", "d.h5", "rq0.h5", "--superpixels", "r.h5")
FORMATS = ("answers.csv", "answers.json", "answers.coco.json", "answers")


@pytest.fixture
def export(region_place, preloaded):
    def run(name, *words, **how):
        return preloaded.run(*EXPORT, "--annotations", "ra0.h5", "-o", name, *words, cwd=region_place, **how)

    return run


@pytest.fixture
def take_in(region_place, preloaded):
    def run(name, output, *words, **how):
        return preloaded.run(*IMPORT, name, "-o", output, *words, cwd=region_place, **how)

    return run


@pytest.mark.parametrize("name", FORMATS)
def test_the_round_goes_on_with_answers_from_elsewhere(name, region_place, preloaded, export, take_in):
    export(name).expect(0, out=f"wrote {name}: 24 queries, 24 of them answered")
    export(name).expect(0, out=f"{name} is up to date")
    take_in(name, "people.h5").expect(0, out="round 0, 24 answers, 0 queries open")
    take_in(name, "people.h5").expect(0, out="up to date")
    people, simulated = (Annotations(region_place / path) for path in ("people.h5", "ra0.h5"))
    assert people.labelled_ids() == simulated.labelled_ids()
    for image in simulated.ids:
        assert np.array_equal(people.label_map(image), simulated.label_map(image))
    preloaded.run("verify", "people.h5", cwd=region_place).expect(0, out="undamaged and up to date")
    words = ("select", "d.h5", "rs1.h5", "--superpixels", "g.h5", "--annotations", "people.h5", "--budget", "8")
    told = preloaded.run(*words, "--rule", "top", "-o", "next.h5", cwd=region_place)
    told.expect(0, out="round 1, 8 region queries")


def test_the_images_go_along(region_place, export):
    export("answers", "--images", "images").expect(0, out=" images to images, 0 existed")
    names = (region_place / "answers/ImageSets/Segmentation/default.txt").read_text().split()
    for name in names:
        assert (region_place / f"images/{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_killed_at_any_change_on_disk_is_whole_or_absent(name, region_place, export):
    export("expected-" + name).expect(0)
    expected = region_place / ("expected-" + name)
    for point in range(1, 200):
        done = export(name, signal_at=(point, signal.SIGKILL))
        output = region_place / name
        if output.exists():
            assert_alike(output, expected)
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        if output.exists():
            shutil.rmtree(output) if output.is_dir() else output.unlink()
    assert point > 3
    assert not list(region_place.glob(".*")), "the last run cleared up behind the dead ones"


def assert_alike(output, expected):
    if output.is_dir():
        assert [told[1] for told in listing(output).values()] == [told[1] for told in listing(expected).values()]
    else:
        assert output.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_an_import_killed_at_any_change_on_disk_is_whole_or_absent(name, region_place, preloaded, export, take_in):
    export(name).expect(0)
    for point in range(1, 60):
        done = take_in(name, "people.h5", signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
        if (region_place / "people.h5").exists():
            preloaded.run("verify", "people.h5", cwd=region_place).expect(0, out="undamaged and up to date")
    assert point > 2
    preloaded.run("verify", "people.h5", cwd=region_place).expect(0, out="undamaged and up to date")


def test_a_disk_without_room_gets_no_half_folder(region_place, preloaded, export, small_disk):
    export("expected").expect(0)
    options = [f"size=64m,nr_inodes={files + 1}" for files in range(1, 40)]
    options += [f"size={kib}k" for kib in (4, 8, 12, 16, 24, 32, 64, 1024)]
    for option in options:
        disk = small_disk(option)
        done = export(disk / "answers")
        if done.code == 0:
            assert_alike(disk / "answers", region_place / "expected")
            shutil.rmtree(disk / "answers")
        else:
            done.expect(1, err="No space left on device")
        assert list(disk.iterdir()) == []
    assert done.code == 0


def test_the_second_says_who_is_writing(region_place, preloaded, export):
    words = (*EXPORT, "--annotations", "ra0.h5", "-o", "answers")
    first = preloaded.start(*words, cwd=region_place, signal_at=(6, signal.SIGSTOP))
    wait_until(first.sleeps, "the first to fall asleep amid its files")
    export("answers").expect(1, err=f"answers is being written by process {first.pid}")
    first.send(signal.SIGCONT)
    first.finish().expect(0, out="wrote answers")


@pytest.mark.parametrize(
    "words, says",
    [
        (("export-queries", "d.h5", "rq0.h5", "-o", "x.csv"), "rq0.h5 refers to regions. Pass --superpixels r.h5."),
        (("export-queries", "d.h5", "rq0.h5", "--superpixels", "g.h5", "-o", "x.csv"), "another superpixels"),
        ((*EXPORT, "-o", "x.h5"), "x.h5 has an unknown ending. Use .csv, .json, .coco.json, .labelstudio, .npy, .txt"),
        ((*EXPORT, "-o", "d.h5"), "d.h5 has an unknown ending. Use .csv, .json, .coco.json, .labelstudio, .npy, .txt"),
        (
            (*EXPORT, "-o", "rq0.csv", "--annotations", "a0.h5"),
            "a0.h5 was not made from rq0.h5. Pass the ledger of these queries.",
        ),
        ((*EXPORT, "-o", "."), "'.' is not a file name. Use one that ends in .csv, .json, "),
        (
            (*EXPORT, "-o", "z.csv", "--images", "d.h5"),
            "Cannot create the folder d.h5: File exists. Choose another output.",
        ),
        (
            (*EXPORT[:2], "q0.h5", "--superpixels", "r.h5", "-o", "x.csv"),
            "q0.h5 refers to pixels, not regions. Omit --superpixels.",
        ),
        (
            (*IMPORT, "absent.csv", "-o", "x.h5"),
            "Cannot read absent.csv: No such file or directory. Pass the file or folder with the answers.",
        ),
        (
            (*IMPORT, "absent", "-o", "x.h5"),
            "Cannot read absent: No such file or directory. Pass the file or folder with the answers.",
        ),
        ((*IMPORT, "rq0.h5", "-o", "x.h5"), "is not a CSV table"),
        (
            (*IMPORT, ".", "-o", "x.h5"),
            "m.curve.png is not an image of the dataset. Name the files like the images, such as ",
        ),
        (
            (*IMPORT, "answers", "-o", "x.h5", "--annotations", "ra0.h5"),
            "rq0.h5: these queries were selected without a ledger. Omit --annotations.",
        ),
        ((*IMPORT, "answers", "-o", "x.h5", "--resize", "7"), "7"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(words, says, region_place, preloaded, export):
    export("answers").expect(0)
    before = listing(region_place)
    preloaded.run(*words, cwd=region_place).expect(2, err=says)
    assert listing(region_place) == before
