"""Settings of pseudo-label: each belongs to a method."""

import pytest

from stages.runtime.errors import BadInput
from stages.settings.pseudo_label import PseudoLabelSettings

SHARED = {"seed", "trust", "method", "checkpoint", "batch", "device", "precision", "same_device"}
VIEWS = {"flip", "scales"}
APPLIES = {
    "sieve": {"sieve", "min_pixels", "samples", "min_delta", "input_scale", "input_filter", "predictions"},
    "prototypes": VIEWS | {"expansion", "quantile", "prototype_temperature", "renormalise"},
    "candidates": VIEWS,
    "argmax": VIEWS | {"extent"},
    "gated": {"gate", "split", "input_scale"},
    "neighbours": {
        "features",
        "encoder",
        "weights",
        "among",
        "unlabelled_split",
        "neighbours",
        "vote_temperature",
        "margin",
        "cap",
    }
    | {"cell", "input_scale"},
}


@pytest.mark.parametrize("method", APPLIES)
def test_each_method_has_its_settings(method):
    assert PseudoLabelSettings(method=method).flat().keys() - SHARED == APPLIES[method]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gate": 0.5}, "gate does not apply to method sieve; it is for method gated."),
        ({"method": "gated", "sieve": "first"}, "sieve does not apply to method gated; it is for method sieve."),
        ({"flip": True}, "flip does not apply to method sieve; it is for method prototypes, candidates, argmax."),
        ({"method": "argmax", "renormalise": False}, "renormalise does not apply to method argmax"),
        ({"method": "prototypes", "input_scale": 2.0}, "input-scale does not apply to method prototypes"),
        ({"method": "candidates", "extent": "image"}, "extent does not apply to method candidates"),
        ({"margin": 0.5}, "margin does not apply to method sieve; it is for method neighbours."),
        ({"method": "neighbours", "features": "model", "encoder": "vgg16"}, "encoder does not apply to features model"),
        (
            {"method": "neighbours", "among": "image", "unlabelled_split": "val"},
            "unlabelled-split does not apply to among",
        ),
        ({"sieve": "none", "samples": 10}, "samples does not apply to sieve none"),
        ({"sieve": "first", "min_delta": 0.1}, "min-delta does not apply to sieve first"),
        ({"method": "prototypes", "expansion": "none", "quantile": "minimum"}, "quantile does not apply to expansion"),
    ],
)
def test_what_does_not_apply_is_refused_with_what_it_is_for(values, says):
    with pytest.raises(BadInput) as refused:
        PseudoLabelSettings.load(values)
    assert says in str(refused.value)
    assert "it is for" in str(refused.value)


def test_a_recipe_for_all_methods_offers_what_applies():
    every = {"gate": 0.5, "sieve": "first", "min_delta": 0.1, "samples": 9, "flip": True}
    settings = PseudoLabelSettings.load({}, offered=every)
    assert settings.sieving is not None
    assert settings.flat().keys() - SHARED == APPLIES["sieve"] - {"min_delta"}
    assert settings.sieving.knee is not None
    assert settings.sieving.knee.samples == 9
