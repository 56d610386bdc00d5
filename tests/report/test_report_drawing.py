"""What the report is drawn with: axes, colours that can be read, pictures cut to what they show."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from stages.reporting.report.charts import Series, line_chart, marker, nice, short, x_axis
from stages.reporting.report.heat import DARK_ANCHORS, LIGHT_ANCHORS, contrast, heat_cell, ink, luminance, ramp
from stages.reporting.report.pictures import WIDEST, decoded, encoded, panel_of, to_bytes, wrong_pixels


class TestHeat:
    @pytest.mark.parametrize("anchors", [LIGHT_ANCHORS, DARK_ANCHORS])
    def test_text_can_be_read_on_every_level(self, anchors):
        assert all(contrast(ink(colour), colour) >= 4.5 for colour in ramp(anchors))

    @pytest.mark.parametrize(("anchors", "sign"), [(LIGHT_ANCHORS, -1), (DARK_ANCHORS, 1)])
    def test_brightness_alone_tells_the_levels_apart(self, anchors, sign):
        steps = np.diff([luminance(colour) for colour in ramp(anchors)])
        assert (sign * steps > 0).all()

    def test_levels_go_from_nothing_to_the_most(self):
        assert [heat_cell(value).level for value in (0.0, 4.9, 5.1, 100.0, 130.0)] == [0, 0, 1, 10, 10]
        assert heat_cell(2.0, most=4.0).level == 5
        assert (heat_cell(None).text, heat_cell(None).level) == ("–", None)


class TestCharts:
    def test_steps_are_round_numbers(self):
        assert [nice(step) for step in (0.3, 1, 1.2, 4, 7, 230)] == [0.5, 1, 2, 5, 10, 500]

    def test_costs_start_at_zero_unless_they_are_worlds_apart(self):
        near, far = x_axis([100, 300, 1000]), x_axis([100, 600000])
        assert near.ticks[0] == 0
        assert not near.logarithmic
        assert far.logarithmic
        assert far.ticks == [100, 1000, 10000, 100000]
        assert x_axis([100, 5000]).ticks == [100, 200, 500, 1000, 2000, 5000]

    def test_everything_lies_inside(self):
        series = [Series('a<b"', 0, [(10, 20.0), (20, 99.0)], [(10, 18.0, 22.0), (20, 98.0, 99.9)])]
        svg = line_chart(series, [("goal & more", 60.0)], "x", "y", 'told "<"')
        values = [float(text) for text in re.findall(r"(?:x|y|x1|x2|y1|y2|cx|cy)=\"(-?[\d.]+)\"", svg)]
        assert max(values) <= 720
        assert '<b"' not in svg
        assert "goal &amp; more 60.0" in svg
        assert svg.count("<title>") == 2

    def test_one_point_is_enough(self):
        assert "circle" in line_chart([Series("a", 0, [(0, 50.0)])], [], "x", "y", "")

    def test_styles_differ(self):
        assert len({marker(style, 10, 10) for style in range(7)}) == 7

    @pytest.mark.parametrize(("value", "text"), [(0, "0"), (500, "500"), (5000, "5k"), (25000, "25k"), (2e6, "2M")])
    def test_ticks_are_short(self, value, text):
        assert short(value) == text


class TestPictures:
    def test_a_picture_travels_as_a_data_uri(self):
        noise = np.random.default_rng(0).integers(0, 255, (40, 900, 3), dtype=np.uint8)
        picture = encoded(noise)
        kind, content = re.fullmatch(r"data:image/(\w+);base64,(.*)", picture.uri).groups()
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert kind == "jpeg"
        assert image.size == (picture.width, picture.height) == (WIDEST, round(40 * WIDEST / 900))

    def test_maps_of_classes_keep_their_colours(self):
        flat = np.zeros((64, 1400, 3), np.uint8)
        flat[:, 700:] = (213, 94, 0)
        picture = encoded(flat, exact=True)
        image = np.array(Image.open(io.BytesIO(base64.b64decode(picture.uri.split(",")[1]))).convert("RGB"))
        assert picture.uri.startswith("data:image/png")
        assert len(np.unique(image.reshape(-1, 3), axis=0)) == 2

    def test_titles_legends_and_margins_are_cut_off(self):
        drawn = np.full((100, 80, 3), 255, np.uint8)
        drawn[5:8, 2:78] = 0  # a title
        drawn[20:60, 10:60] = 90
        drawn[30:50, 65:70] = 30  # a colour bar
        drawn[70:75, 10:20] = 0  # a legend
        assert panel_of(decoded(to_bytes(Image.fromarray(drawn), "PNG")), (40, 50)).shape == (40, 50, 3)

    def test_a_white_sky_stays(self):
        drawn = np.full((100, 80, 3), 255, np.uint8)
        drawn[40:60, 10:60] = 90
        assert panel_of(drawn, (40, 50)).shape == (40, 50, 3)
        assert (panel_of(drawn, (40, 50))[:20] == 255).all()

    def test_a_drawing_without_a_panel_stays_whole(self):
        assert panel_of(np.full((10, 10, 3), 255, np.uint8), (5, 5)).shape == (10, 10, 3)

    def test_wrong_pixels_stand_out(self):
        pixels = np.full((4, 6, 3), 120, np.uint8)
        truth = np.zeros((4, 6), np.uint8)
        truth[0] = 255
        predicted = np.zeros((4, 6), np.uint8)
        predicted[:2, :3] = 1
        found = wrong_pixels(pixels, predicted, truth)
        assert (found[0] == 255).all()
        assert (found[1, :3] == (213, 94, 0)).all()
        assert (found[1, 3:] == found[3, 3]).all()
        assert found[3, 3].min() > 150
