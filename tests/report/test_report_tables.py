"""What the tables and the gallery are made of: pseudo-labels, clusters, discriminators, the images that are shown."""

from pathlib import Path

import pytest
from report_support import ask
from worlds import random_masks, write_dataset

from stages.artifacts.header import Header, InputRef
from stages.reporting.report.answers import acceptance_of, clusters_of, pseudo_labels_of
from stages.reporting.report.collect import Node, Run, collect_run, in_order
from stages.reporting.report.extent import Extent
from stages.reporting.report.gallery import chosen_images, draw_galleries, images_of, shown_rounds, times_asked
from stages.reporting.report.page import duration, setting, whole


def run_of(folder: Path, *headers: tuple[str, Header]) -> Run:
    nodes = [Node(file, folder / file, 0 if "/" in file else None, header) for file, header in headers]
    return Run("run", folder, [], nodes, None)


class TestTables:
    def test_sieved_labels(self, tmp_path):
        counts = {"images": 3, "regions": 8, "sieved_regions": 2, "region_pixels": 200, "kept_pixels": 150}
        header = Header("pseudo_labels", "pseudo-label", {}, {}, 0, counts=counts, attributes={"method": "sieve"})
        (found,) = pseudo_labels_of(run_of(tmp_path, ("round-0/p.h5", header)))
        assert (found["kept"], found["regions"], found["accepted"], found["labelled_pixels"]) == (75, 8, None, None)

    def test_gated_labels(self, tmp_path):
        header = Header("pseudo_labels", "pseudo-label", {}, {}, 0, counts={"accepted": 3, "refused": 9})
        (found,) = pseudo_labels_of(run_of(tmp_path, ("p.h5", header)))
        assert (found["accepted"], found["judged"], found["kept"]) == (25, 12, None)

    def test_clusters_only_where_there_are_any(self, tmp_path):
        with_them = Header("queries", "select", {}, {}, 0, counts={"cluster_queries": [4, 0], "cluster_budget": [1, 0]})
        without = Header("queries", "select", {}, {}, 0, counts={"queries": 3})
        (found,) = clusters_of(run_of(tmp_path, ("round-0/a.h5", with_them), ("round-0/b.h5", without)))
        assert (found["queries"], found["budget"], found["score"]) == ([4, 0], [1, 0], [])

    def test_acceptance_is_read_from_the_history(self, tmp_path):
        header = Header("model", "train", {}, {}, 0, attributes={"discriminator": True})
        run = run_of(tmp_path, ("m.safetensors", header))
        assert acceptance_of(run) == []
        (tmp_path / "m.history.csv").write_text("epoch,accepted\n1,0.5\n2,0.25\n3,\n")
        assert acceptance_of(run) == [{"round": None, "file": "m.safetensors", "last": 25, "highest": 50}]

    def test_what_is_made_once_stands_before_the_rounds_and_the_end_after_them(self, tmp_path):
        base = Header("superpixels", "x", {}, {}, 0, digest="b", created="2026-01-01")
        late = Header("evaluation", "x", {}, {}, 0, digest="e", created="2025-01-01")
        made = Header("scores", "x", {}, {"superpixels": InputRef("../base.h5", "b")}, 0, digest="s", created="2024")
        nodes = run_of(tmp_path, ("end.h5", late), ("round-0/s.h5", made), ("base.h5", base)).nodes
        assert [node.file for node in in_order(nodes)] == ["base.h5", "round-0/s.h5", "end.h5"]

    @pytest.mark.parametrize(("seconds", "text"), [(90, "90 s"), (640, "11 min"), (7000, "117 min"), (9000, "2.5 h")])
    def test_durations(self, seconds, text):
        assert duration(seconds) == text

    def test_numbers_can_be_copied(self):
        assert [whole(value) for value in (None, 7340.0, 2.5, 628671)] == ["–", "7340", "2.5", "628671"]

    def test_long_settings_are_cut(self):
        assert setting("x" * 500).endswith("...")
        assert (setting(None), setting([0.5, 1]), setting("none")) == ("null", "[0.5, 1]", "none")


class TestGallery:
    @pytest.fixture(scope="class")
    @staticmethod
    def runs(tmp_path_factory):
        """Two runs of seven rounds on eight images, of which each round asks about six; one that asks for masks."""
        folder = tmp_path_factory.mktemp("runs")
        names = [f"i{number}" for number in range(8)]
        dataset = write_dataset(folder / "d.h5", random_masks(names, (16, 24), 3), 3)
        for seed in range(2):
            ledger = None
            for number in range(7):
                ledger = ask(folder / f"run-{seed}/round-{number}", dataset, ledger, seed, 2, image_share=0.75)
        ask(folder / "masks/round-0", dataset, unit="image", rule="top", budget=3)
        return [collect_run(folder / name, name, "last", "evaluation") for name in ("run-0", "run-1", "masks")]

    def test_images_were_asked_about_in_round_0_and_are_the_same_in_all_runs(self, runs):
        pixels = runs[:2]
        asked = [images_of(run.of_kind("queries")[0]) for run in pixels]
        assert all(len(each) == 6 for each in asked)
        shared = asked[0] & asked[1]
        assert len(shared) > 1
        times = [times_asked(run) for run in pixels]
        chosen = [chosen_images(run, own, times, 2) for run, own in zip(pixels, times, strict=True)]
        assert chosen[0] == chosen[1] == sorted(chosen[0])
        assert set(chosen[0]) <= shared
        assert set(chosen_images(pixels[0], times[0], times, 6)) == asked[0]  # too few are shared

    def test_of_masks_those_images_are_shown_that_have_one(self, runs):
        assert set(chosen_images(runs[2], times_asked(runs[2]), [], 2)) <= images_of(runs[2].of_kind("queries")[0])

    def test_of_many_rounds_some_are_shown_with_the_first_and_the_last(self, runs):
        assert [each.queries.round for each in shown_rounds(runs[0], 5)] == [0, 2, 3, 4, 6]
        assert [each.queries.round for each in shown_rounds(runs[0], 1)] == [6]

    def test_whole_images_are_shown_as_a_sheet(self, runs):
        (gallery,) = draw_galleries([runs[2]], runs, Extent.of(1, 1), "last")
        sheet, mask = gallery.asked
        assert sheet.wide
        assert sheet.pictures[0].caption == "round 0: 3 images, answer: mask"
        assert mask.pictures[0].caption == "round 0: 1 answer so far"
        assert not gallery.notes
        assert not gallery.predicted
