"""Values, colours, names of files, grids: the small parts of the formats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from stages.answering.exchange.values import OPEN, SKIP, UNPAINTED, colours_of, names_of, values_of
from stages.datasets.image_names import image_of, known_names
from stages.datasets.shapes.runs import string_runs
from stages.pixels.void import VOID
from stages.runtime.errors import BadInput


def test_values_beside_the_classes():
    assert (UNPAINTED, SKIP, OPEN, VOID) == (252, 253, 254, 255)
    assert names_of(["road", "void"]) == {
        0: "road",
        1: "void",
        252: "background",
        253: "skip",
        254: "open",
        255: "alseg-void",
    }
    assert values_of(["background"])["background"] == 0
    with pytest.raises(
        BadInput, match=r"^Painted answers have room for 252 classes, not 253\. Use a table \(\.csv, \.json\)\.$"
    ):
        names_of([str(number) for number in range(253)])


@given(arrays(np.uint8, st.tuples(st.integers(1, 252), st.just(3)), elements=st.sampled_from([0, 1, 254, 255])))
def test_no_two_colours_are_alike(palette):
    colours = colours_of(palette)
    assert sorted(colours) == [*range(len(palette)), 252, 253, 254, 255]
    assert len(set(colours.values())) == len(colours)
    assert colours[0] == tuple(palette[0])


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_compressed_runs_are_those_of_the_reference(mask):
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = string_runs(packed["counts"].decode())
    assert runs.sum() == mask.size
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.T.ravel())


@given(st.integers(0, 2**40), st.lists(st.integers(0, 70000), min_size=1, max_size=9))
def test_long_runs_too(start, lengths):
    if start + sum(lengths) < 2**32:  # what the reference takes
        runs = [start, *lengths]
        packed = coco.frPyObjects({"size": [1, sum(runs)], "counts": runs}, 1, sum(runs))
        assert string_runs(packed["counts"].decode()).tolist() == runs


@pytest.mark.parametrize("text", ["", "P", "0" * 5 + "`", "o" * 40, "ä", "PPPPPPPPPPPPPPPPPPPP0"])
def test_strings_that_are_no_runs(text):
    with pytest.raises(ValueError, match="runs that are not a COCO string"):
        string_runs(text)


class TestNames:
    known = known_names(["a/one", "a/two", "b/one", "img.v2", "12345678-x"])

    @pytest.mark.parametrize(
        "name, image",
        [
            ("a/one.png", "a/one"),
            ("images/default/b/one.jpg", "b/one"),
            ("two.png", "a/two"),
            ("C:\\up\\a\\two.jpeg", "a/two"),
            ("img.v2.png", "img.v2"),
            ("img.v2", "img.v2"),
            ("images/0badf00d-two.png", "a/two"),
            ("12345678-x.png", "12345678-x"),
        ],
    )
    def test_found(self, name, image):
        assert image_of(name, self.known, "t") == image

    @pytest.mark.parametrize(
        "name, says",
        [
            ("one.png", r"^t: several images are called one\.png\. Keep the folders in its name\.$"),
            (
                "zebra.png",
                r"^t: zebra\.png is not an image of the dataset\. Name the files like the images, such as .*\.png\.$",
            ),
            ("", r"^t: '' is not an image of the dataset\. Name the files like the images, such as .*\.png\.$"),
        ],
    )
    def test_refused(self, name, says):
        with pytest.raises(BadInput, match=says):
            image_of(name, self.known, "t")
