"""The report of runs: its numbers are those of the artifacts, and the page stands alone and is safe to open."""

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from report_support import HOSTILE, Page, ask, hostile_dataset, learn, write_evaluation
from worlds import random_masks, region_round, write_dataset, write_superpixels

from stages.artifacts.annotations import Annotations
from stages.artifacts.opening import read_any_header
from stages.reporting.comparison import read_run
from stages.reporting.diagnostics import answer_counts
from stages.reporting.report.answers import asked_of
from stages.reporting.report.collect import collect_run
from stages.reporting.report.command import write_report
from stages.reporting.report.groups import group_runs
from stages.reporting.report.page import palette
from stages.runtime.errors import BadInput

NAME = 'ru<n>&"0"'


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run of two rounds with a hostile name, the same with another seed but without models, and full supervision."""
    folder = tmp_path_factory.mktemp("world")
    dataset = hostile_dataset(folder / 'data "<x>.h5')
    first, second, full = folder / NAME, folder / 'ru<n>&"1"', folder / "full"
    ledger = None
    for number in range(2):
        ledger = ask(first / f"round-{number}", dataset, ledger)
        learn(first / f"round-{number}", dataset, ledger)
    ledger = None
    for number in range(2):
        ledger = ask(second / f"round-{number}", dataset, ledger, seed=1)
        iou = {HOSTILE[0]: 0.2 + 0.1 * number, HOSTILE[1]: 0.1, HOSTILE[2]: None}
        made = read_any_header(first / f"round-{number}/evaluation.h5")
        write_evaluation(second / f"round-{number}", 12 * (number + 1), iou, like=made)
    write_evaluation(full / "round-0", 5000, dict.fromkeys(HOSTILE, 0.5))
    return {"folder": folder, "dataset": dataset, "first": first, "second": second, "full": full}


def report(runs, output, full=None, images=0, checkpoint="last", evaluation="evaluation") -> Page:
    write_report(runs, output, full, checkpoint, images, evaluation)
    return Page(output.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(world, tmp_path_factory):
    """With everything: two runs that differ by seed, full supervision, pictures."""
    output = tmp_path_factory.mktemp("page") / "report.html"
    return report([world["first"], world["second"]], output, world["full"], images=2)


@pytest.fixture
def copy(world, tmp_path):
    """The first run, to be damaged."""
    shutil.copy(world["dataset"], tmp_path)
    return Path(shutil.copytree(world["first"], tmp_path / NAME))


class TestNumbers:
    def test_curves_are_those_of_compare(self, world, tmp_path):
        page = report([world["first"]], tmp_path / "r.html")
        rows = page.table("answers per image", "mIoU (%)")
        expected = read_run(world["first"], "last")
        assert len(rows) == len(expected) == 2
        for row, entry in zip(rows, expected, strict=True):
            asked, clicks, seconds, minutes, miou, epoch = row[-6:]
            assert [float(asked), float(clicks)] == [entry.asked, entry.clicks]
            assert float(miou) == pytest.approx(entry.miou, abs=0.005)
            assert (float(seconds), float(minutes), epoch) == (entry.clicks, round(entry.clicks / 60, 1), "1")

    def test_the_best_epoch_is_reported_where_it_is_asked_for(self, world, tmp_path):
        page = report([world["first"]], tmp_path / "r.html", checkpoint="best")
        (_, *_, miou, _), _ = page.table("answers per image", "best epoch")
        assert float(miou) == pytest.approx(read_run(world["first"], "best")[0].miou, abs=0.005)

    def test_classes_are_those_of_the_evaluation(self, world, tmp_path):
        page = report([world["first"]], tmp_path / "r.html")
        for number, row in enumerate(page.table("round", "clicks", "mIoU", *HOSTILE)):
            result = json.loads((world["first"] / f"round-{number}/evaluation.json").read_text())["models"][0]
            wanted = [result["miou"], *(result["iou"][name] for name in HOSTILE)]
            assert [float(text) for text in row[2:]] == pytest.approx([100 * value for value in wanted], abs=0.05)

    def test_the_cost_is_that_of_the_ledgers(self, world, tmp_path):
        rows = report([world["first"]], tmp_path / "r.html").table("queries", "answers", "clicks so far")
        last = Annotations(world["first"] / "round-1/annotations.h5")
        assert [row[:3] for row in rows] == [["round 0", "pixels", "class"], ["round 1", "pixels", "class"]]
        assert sum(int(row[4]) for row in rows) == len(last.answers) == 24
        assert float(rows[-1][9]) == last.cost()["clicks"]
        assert float(rows[-1][10]) == round(last.cost()["seconds"] / 60, 1)

    def test_full_supervision_is_the_line_to_reach(self, page):
        row = next(row for row in page.table("evaluated", "of full (%)") if row[0] == "full supervision")
        assert row[-3:] == ["50.00", "100.0", ""]
        names = re.findall(r'class="goal-name".*?>(.*?)<', page.source)
        assert names == ["full supervision 50.0", "95 % of it 47.5"] * 2

    def test_answers_per_class_are_those_of_inspect(self, world):
        run = collect_run(world["first"], "run", "last", "evaluation")
        ledgers = asked_of(run)
        total = np.sum([list(each.named.values()) for each in ledgers], axis=0)
        counts = answer_counts(Annotations(world["first"] / "round-1/annotations.h5"))
        assert list(ledgers[0].named) == [*HOSTILE, "void"]
        assert total.tolist() == counts[[0, 1, 2, 255]].tolist()
        assert not run.notes


class TestWhatIsBelieved:
    """Numbers come from the evaluation's HDF5, whose checksums are compared; the JSON beside it is for people."""

    def test_an_edited_json_changes_nothing(self, copy, tmp_path):
        before = read_run(copy, "last")
        path = copy / "round-1/evaluation.json"
        content = json.loads(path.read_text())
        for model in content["models"]:
            model["miou"], model["cost"]["clicks"] = 0.99, 1
        path.write_text(json.dumps(content))
        assert read_run(copy, "last") == before
        assert collect_run(copy, "run", "last", "evaluation").measured == before

    def test_an_edited_number_is_refused_by_compare_and_left_out_of_the_report(self, copy, tmp_path):
        with h5py.File(copy / "round-1/evaluation.h5", "r+") as file:
            file["miou"][...] = 0.99
        with pytest.raises(BadInput, match=r"round-1/evaluation\.h5 is damaged at miou.*Rebuild it"):
            read_run(copy, "last")
        page = report([copy], tmp_path / "r.html")
        assert len(page.table("answers per image")) == 1
        assert "round-1/evaluation.h5 is damaged at miou" in page.text


class TestOtherAnswers:
    """What counts as an answer about a class, beyond single pixels."""

    @pytest.fixture(scope="class")
    @staticmethod
    def squares(tmp_path_factory):
        folder = tmp_path_factory.mktemp("squares")
        dataset = write_dataset(folder / "d.h5", random_masks(["a", "b"], (16, 32), 3), 3)
        return folder, dataset, write_superpixels(folder, dataset)

    @pytest.mark.parametrize("answer", ["dominant", "class-set", "precise"])
    def test_every_answer_about_a_region_counts_once(self, squares, answer, tmp_path):
        _, dataset, regions = squares
        region_round(tmp_path, dataset, 0, regions, select_settings={"budget": 0, "answer": answer})
        (asked,) = asked_of(collect_run(tmp_path, "run", "last", "evaluation"))
        assert asked.answers == 16
        assert (asked.unit, asked.kind) == ("region", answer)
        assert sum(asked.named.values()) == pytest.approx(16)
        if answer == "precise":  # all pixels were asked about
            mask = np.concatenate([random_masks(["a", "b"], (16, 32), 3)[image].ravel() for image in "ab"])
            assert asked.named["void"] == pytest.approx(16 * (mask == 255).mean())

    def test_masks_count_by_their_pixels(self, squares, tmp_path):
        ask(tmp_path / "round-0", squares[1], unit="image", rule="top", budget=0)
        (asked,) = asked_of(collect_run(tmp_path, "run", "last", "evaluation"))
        assert (asked.unit, asked.kind, asked.answers) == ("image", "mask", 2)
        masks = random_masks(["a", "b"], (16, 32), 3).values()
        assert asked.named["class1"] == pytest.approx(sum((mask == 1).mean() for mask in masks))
        assert sum(asked.named.values()) == pytest.approx(2)

    def test_classes_of_whole_images(self, squares, tmp_path):
        ask(tmp_path / "round-0", squares[1], unit="image", rule="top", budget=0, image_answer="classes")
        (asked,) = asked_of(collect_run(tmp_path, "run", "last", "evaluation"))
        assert asked.kind == "image-classes"
        assert sum(asked.named.values()) == pytest.approx(2)


class TestSeeds:
    def test_runs_that_differ_by_seed_alone_become_one(self, page, world):
        first, second = read_run(world["first"], "last"), read_run(world["second"], "last")
        rows = page.table("answers per image", "seeds")
        assert len(rows) == 2
        assert rows[0][0] == 'ru<n>&" (2 seeds)'
        for row, one, other in zip(rows, first, second, strict=True):
            mean, spread = (one.miou + other.miou) / 2, abs(one.miou - other.miou) / math.sqrt(2)
            assert f"{mean:.2f} ± {spread:.2f}" in row
        assert page.source.count('class="band"') == 2
        assert page.source.count('class="thin"') == 4

    def test_another_setting_or_the_same_seed_keeps_runs_apart(self, world, tmp_path):
        other = tmp_path / "other"
        ask(other / "round-0", world["dataset"], seed=1, budget=5)
        same = shutil.copytree(world["second"], tmp_path / "same")
        runs = [collect_run(path, path.name, "last", "evaluation") for path in (world["second"], other, same)]
        assert [len(group.runs) for group in group_runs(runs)] == [1, 1, 1]


class TestMissing:
    @pytest.mark.parametrize(
        "file", ["evaluation.json", "evaluation.h5", "model.safetensors", "queries.h5", "annotations.h5", "scores.h5"]
    )
    def test_a_file_that_is_gone_costs_only_what_was_in_it(self, copy, tmp_path, file):
        (copy / "round-1" / file).unlink()
        page = report([copy], tmp_path / "r.html", images=int(file in ("model.safetensors", "queries.h5")))
        assert len(page.table("answers per image")) == (1 if file == "evaluation.h5" else 2)
        assert len(page.table("clicks so far")) == (1 if file == "annotations.h5" else 2)
        gone = file in ("queries.h5", "annotations.h5", "scores.h5", "model.safetensors")
        assert ("missing and not compared" in page.text) == gone
        assert ("the evaluated model is missing" in page.text) == (file == "model.safetensors")

    @pytest.mark.parametrize("file", ["evaluation.h5", "model.safetensors", "queries.h5", "annotations.h5"])
    def test_a_damaged_file_is_named(self, copy, tmp_path, file):
        (copy / "round-1" / file).write_bytes(b"{}")
        page = report([copy], tmp_path / "r.html", images=1)
        assert "is incomplete" in page.text
        assert f"round-1/{file}" in page.text

    def test_ledgers_of_earlier_versions_are_counted_but_not_drawn(self, copy, tmp_path):
        for number in range(2):
            with h5py.File(copy / f"round-{number}/annotations.h5", "r+") as file:
                for column in ("image_level", "region", "superpixels"):
                    del file[f"answers/{column}"]
        page = report([copy], tmp_path / "r.html", images=1)
        assert [row[4] for row in page.table("clicks so far")] == ["12", "12"]
        assert "annotations.h5" in page.text.split("Overlays")[-1]

    def test_without_its_dataset_a_run_has_no_pictures(self, copy, tmp_path):
        (tmp_path / 'data "<x>.h5').unlink()
        page = report([copy], tmp_path / "r.html", images=1)
        assert "No overlays: the dataset" in page.text
        assert not [element for element in page.elements if element[0] == "button"]
        assert len(page.table("answers per image")) == 2

    def test_a_run_without_evaluation_shows_what_was_asked(self, copy, tmp_path):
        for path in copy.glob("*/evaluation.*"):
            path.unlink()
        page = report([copy], tmp_path / "r.html")
        assert "There is no evaluation.h5" in page.text
        assert len(page.table("clicks so far")) == 2
        assert "svg" in {name for name, _ in page.elements}  # swatches

    def test_an_evaluation_at_the_end_lies_beside_the_rounds(self, copy, tmp_path):
        for ending in ("h5", "json"):
            (copy / f"round-0/evaluation.{ending}").unlink()
            (copy / f"round-1/evaluation.{ending}").rename(copy / f"evaluation.{ending}")
        (row,) = report([copy], tmp_path / "r.html").table("answers per image")
        assert "at the end" in row


class TestPage:
    def test_names_are_escaped_everywhere(self, page):
        names = {name for name, _ in page.elements}
        assert not names & {"b>", "n", "i", "iframe", "object", "link"}
        assert sum(name == "script" for name, _ in page.elements) == 1
        for _, attributes in page.elements:
            assert not [name for name in attributes if name.startswith("on")]
        assert sum(name == "img" for name, _ in page.elements) == page.source.count('<img src="data:')
        for name in (*HOSTILE, NAME, 'i0<b>&"', "<i>hostile</i>"):
            assert name in page.text

    def test_nothing_is_fetched(self, page):
        allowed = ("#", "data:")
        for name, attributes in page.elements:
            for key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster", "background"):
                assert attributes.get(key, "#").startswith(allowed), (name, attributes)
        style = "".join(re.findall(r"<style>(.*?)</style>", page.source, re.S))
        assert style
        assert "url(" not in style + " ".join(attributes.get("style", "") for _, attributes in page.elements)
        assert "@import" not in style
        script = "".join(re.findall(r"<script>(.*?)</script>", page.source, re.S))
        assert script
        assert not re.search(r"fetch|XMLHttp|WebSocket|import|eval|innerHTML", script)
        (policy,) = [attributes["content"] for _, attributes in page.elements if "http-equiv" in attributes]
        assert policy.startswith("default-src 'none'")

    def test_the_policy_lets_the_own_script_run(self, page):
        import base64
        import hashlib

        script = re.search(r"<script>(.*?)</script>", page.source, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.source

    def test_every_picture_has_words_and_is_of_modest_size(self, page):
        pictures = [attributes for name, attributes in page.elements if name == "img" and "width" in attributes]
        assert len(pictures) == 2 * 2 * 2 + 2 * 3 * 2  # asked: images, rounds, kinds; held out: images, columns, rows
        assert all(attributes["alt"] for attributes in pictures)
        assert all(int(attributes["width"]) <= 640 for attributes in pictures)
        assert len(page.source) < 1.5e6

    def test_every_table_has_a_head_with_a_scope(self, page):
        assert all(attributes.get("scope") for name, attributes in page.elements if name == "th")

    def test_links_inside_the_page_lead_somewhere(self, page):
        ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        links = [attributes["href"][1:] for name, attributes in page.elements if name == "a"]
        assert len(links) > 10
        assert set(links) <= ids

    def test_colours_of_the_classes_are_those_of_the_dataset(self, world):
        run = collect_run(world["first"], "run", "last", "evaluation")
        assert palette(run) == list(zip(HOSTILE, ("#c80000", "#00c800", "#0000c8"), strict=True))

    def test_the_same_runs_give_the_same_page(self, world, tmp_path):
        pages = [report([world["first"]], tmp_path / "r.html", images=1).source for _ in range(2)]
        same = [re.sub(r"Written .*? by", "", text) for text in pages]
        assert same[0] == same[1]


class TestProvenance:
    def test_the_chain_leads_from_the_model_to_the_queries_and_on(self, page):
        text = " ".join(page.text.split("Provenance")[-1].split())
        assert re.search(r"queries 12 pixels, rule uniform .* annotations 12 answers .* model .* evaluation", text)

    def test_own_settings_are_told_and_defaults_are_not(self, page):
        rows = page.table("artifact", "settings that differ from the defaults", place=0)
        told = {row[0].split(" ")[0]: row[3] for row in rows}
        assert told["round-0/queries.h5"] == "rule = uniform, budget = 4"
        assert "epochs = 1" in told["round-0/model.safetensors"]

    def test_changed_and_missing_inputs_are_marked(self, world, copy, tmp_path):
        (copy / "round-0/scores.h5").unlink()
        shutil.copy(world["second"] / "round-0/queries.h5", copy / "round-0/queries.h5")
        page = report([copy], tmp_path / "r.html")
        assert "1 of their inputs changed since" in page.text
        assert "missing and not compared" in page.text
        digest = read_any_header(world["first"] / "round-0/queries.h5").digest
        rows = {row[0].split(" ")[0]: row[2] for row in page.table("artifact", "from")}
        assert f"queries: round-0/queries.h5 {digest[:12]} changed since" in rows["round-0/annotations.h5"]
        assert "changed" not in rows["round-1/annotations.h5"]

    def test_the_makefile_of_the_run_names_its_recipe(self, copy, tmp_path):
        plan = tmp_path / "any.mk"
        plan.write_text(
            "# PixelPick: 2 rounds, profile scenes. Written by `alseg plan`; plain make runs it:\n"
            f"RUN ?= {NAME}\n\talseg score d.h5 --recipe pixelpick --profile \\\n\t  scenes -o $@\n"
        )
        page = report([copy], tmp_path / "r.html")
        assert "pixelpick, profile scenes" in page.text
        assert "make -f any.mk" in page.text
        (copy / "run.toml").write_text('recipe = "madbal"\nprofile = "profile.toml"\n')
        page = report([copy], tmp_path / "r.html")
        assert "madbal, profile profile.toml" in page.text
        assert "alseg next " in page.text
        (copy / "run.toml").unlink()
        plan.write_text(plan.read_text().replace(NAME, "other"))
        assert "not recorded" in report([copy], tmp_path / "r.html").text


class TestRefused:
    def test_a_folder_that_is_no_run_exits_with_2_and_a_sentence(self, tmp_path):
        words = ["-m", "alseg_cli", "report", str(tmp_path), str(tmp_path / "none"), "-o", str(tmp_path / "r.html")]
        result = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120)
        assert result.returncode == 2
        assert "is not a run" in result.stderr
        assert "There is no folder" in result.stderr
        assert "Traceback" not in result.stderr
        assert not (tmp_path / "r.html").exists()

    def test_an_artifact_is_not_overwritten(self, world, copy):
        with pytest.raises(BadInput, match=r"queries\.h5 is an artifact\. Choose another output\.$"):
            report([copy], copy / "round-0/queries.h5")
        assert read_any_header(copy / "round-0/queries.h5").kind == "queries"

    def test_different_splits_are_not_compared(self, world, tmp_path):
        write_evaluation(tmp_path / "other/round-0", 3, {HOSTILE[0]: 0.1}, split="val")
        with pytest.raises(
            BadInput,
            match=r"^The runs were evaluated on different splits \(test, val\)\. Evaluate all on the same split\.$",
        ):
            report([world["first"], tmp_path / "other"], tmp_path / "r.html")

    def test_full_supervision_without_an_evaluation(self, world, copy, tmp_path):
        for path in copy.glob("*/evaluation.h5"):
            path.unlink()
        told = r"^There is no evaluation\.h5 with \w+ weights below .*\. Run its rounds first\.$"
        with pytest.raises(BadInput, match=told):
            report([world["first"]], tmp_path / "r.html", full=copy)

    def test_a_checkpoint_that_does_not_exist(self, world, tmp_path):
        with pytest.raises(BadInput, match=r"^--checkpoint must be last or best, not 'first'\.$"):
            report([world["first"]], tmp_path / "r.html", checkpoint="first")
