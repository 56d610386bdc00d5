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


NO_HEADS = (
    r"model0\.safetensors has no support heads, which maturity and lossiness need\. Train them with "
    r"--objective support\.$"
)


@pytest.mark.parametrize(
    "what, sentence",
    [
        ("no support heads for maturity", NO_HEADS),
        ("no support heads for lossiness", NO_HEADS),
        (
            "no clusters for the balance",
            r"^--class-balance cluster requires --clusters, the output of cluster-regions\.$",
        ),
        (
            "clusters of other regions",
            r"clusters\.h5 was made from another superpixels \(.*, digest \w{12}\) than .* \(digest \w{12}\)\. Pass "
            r"the one it was made from, or rebuild it\.$",
        ),
        (
            "clusters without a prediction",
            r"^--measure random predicts no classes, so --clusters has nothing to count\. Omit it\.$",
        ),
        (
            "a ledger of another grid",
            r"ledger0\.h5 queried image \w on a grid of 32 x 48 pixels, but these scores have 64 x 96\. Score on the "
            r"same grid in all rounds \(--grid-scale, --superpixels\)\.$",
        ),
        ("pixels with clusters", r"^--clusters and --annotations require --unit region with --superpixels\.$"),
        ("no best pixels", r"s\.h5 has no best pixels of regions\. Score with --best-pixel\.$"),
        ("no clusters for the rule", r"s\.h5 has no clusters\. Score with --clusters\.$"),
        (
            "scores without the ledger",
            r"s\.h5 was scored without a ledger, so a region's best pixel may have been queried before\. Score with "
            r"the same --annotations\.$",
        ),
        (
            "scores with a ledger that is not given",
            r"scores1\.h5 was scored with a ledger\. Pass the same --annotations to select\.$",
        ),
        (
            "scores with another ledger",
            r"scores1\.h5 was made from another annotations \(.*, digest \w{12}\) than .* \(digest \w{12}\)\. Pass "
            r"the one it was made from, or rebuild it\.$",
        ),
        (
            "scores of pixels",
            r"^Rule clusters serves regions, and .*s\.h5 has pixels\. Use diverse, pool, power, reverse-pool, "
            r"stratified, top, uniform\.$",
        ),
        (
            "support without a model",
            r"^Objective support starts from a trained model\. Pass --model, without --cold-start\.$",
        ),
        (
            "support without the best weights",
            r"m\.safetensors has no best weights, which only training with validation writes\. Use last\.$",
        ),
        (
            "the same regions without superpixels",
            r"scores1\.h5 refers to regions\. Pass --superpixels base\.h5\.$",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_remedy(world, tmp_path, what, sentence):
    with pytest.raises(BadInput, match=sentence):
        refused(world, tmp_path, what)
    assert not (tmp_path / "out.h5").exists()
