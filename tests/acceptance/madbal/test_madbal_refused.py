"""Calls of MADBAL's stages that cannot be right are refused with their remedy, and nothing is written."""

import pytest
from madbal_support import settings_of
from worlds import write_superpixels

from stages.commands import score, select, train
from stages.runtime.errors import BadInput
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings


def refused(world, tmp_path, what):
    """Calls that cannot be right, by what is wrong with them."""
    dataset, base, clusters, output = world["dataset"], world["base"], world["clusters"], tmp_path / "out.h5"
    ledger, support = world["ledger0"], world["support0"]
    scored, chosen = settings_of("scores", 1), settings_of("queries", 1)
    plain = {"unit": "region", "measure": "entropy", "device": "cpu"}

    def made(name, *arguments, **own):
        return score.run(dataset, tmp_path / f"{name}.h5", ScoreSettings(**plain | own), *arguments)

    match what:
        case "no support heads for maturity":
            score.run(
                dataset, output, settings_of("scores", 1, lossiness=False), world["model0"], base, clusters, ledger
            )
        case "no support heads for lossiness":
            score.run(
                dataset, output, settings_of("scores", 1, maturity="none"), world["model0"], base, clusters, ledger
            )
        case "no clusters for the balance":
            score.run(dataset, output, scored, support, base, None, ledger)
        case "clusters of other regions":
            other = write_superpixels(tmp_path, dataset, grid_scale=0.5)
            score.run(dataset, output, scored, support, other, clusters, ledger)
        case "clusters without a prediction":
            score.run(dataset, output, settings_of("scores", 0), None, base, clusters)
        case "a ledger of another grid":
            fine = write_superpixels(tmp_path, dataset)
            score.run(dataset, output, settings_of("scores", 0), None, fine, None, ledger)
        case "pixels with clusters":
            score.run(dataset, output, ScoreSettings(measure="entropy"), support, None, clusters)
        case "no best pixels":
            select.run(
                dataset, made("s", support, base), output, SelectSettings(answer="pixel", rule="top"), None, base
            )
        case "no clusters for the rule":
            found = made("s", support, base, best_pixel=True)
            select.run(dataset, found, output, SelectSettings(answer="pixel", rule="clusters"), None, base)
        case "scores without the ledger":
            found = made("s", support, base, clusters, best_pixel=True)
            select.run(dataset, found, output, chosen, ledger, base)
        case "scores with a ledger that is not given":
            select.run(dataset, world["scores1"], output, chosen, None, base)
        case "scores with another ledger":
            select.run(dataset, world["scores1"], output, chosen, world["ledger1"], base)
        case "scores of pixels":
            found = score.run(dataset, tmp_path / "s.h5", ScoreSettings(measure="random"))
            select.run(dataset, found, output, chosen)
        case "support without a model":
            train.run(dataset, ledger, tmp_path / "m.safetensors", settings_of("support"))
        case "support without the best weights":
            chosen = settings_of("model", validation_split="none")
            model = train.run(dataset, ledger, tmp_path / "m.safetensors", chosen)
            train.run(dataset, ledger, tmp_path / "s.safetensors", settings_of("support", checkpoint="best"), model)
        case "the same regions without superpixels":
            select.run(dataset, world["scores1"], output, chosen, ledger)


@pytest.mark.parametrize(
    "what, remedy",
    [
        ("no support heads for maturity", "Train them with --objective support"),
        ("no support heads for lossiness", "Train them with --objective support"),
        ("no clusters for the balance", "--class-balance cluster requires --clusters"),
        ("clusters of other regions", "made from another superpixels"),
        ("clusters without a prediction", "--clusters has nothing to count. Omit it"),
        ("a ledger of another grid", "on the same grid"),
        ("pixels with clusters", "require --unit region with --superpixels"),
        ("no best pixels", "Score with --best-pixel"),
        ("no clusters for the rule", "Score with --clusters"),
        ("scores without the ledger", "Score with the same --annotations"),
        ("scores with a ledger that is not given", "Pass the same --annotations to select"),
        ("scores with another ledger", "made from another annotations"),
        ("scores of pixels", r"Rule clusters serves regions, and .* has pixels\. Use pool, power"),
        ("support without a model", "Pass --model"),
        ("support without the best weights", "Use last"),
        ("the same regions without superpixels", "Pass --superpixels"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_remedy(world, tmp_path, what, remedy):
    with pytest.raises(BadInput, match=remedy):
        refused(world, tmp_path, what)
    assert not (tmp_path / "out.h5").exists()
