"""What every settings model and every kind of artifact must keep; new ones are picked up by name."""

from pathlib import Path

import h5py
import pytest
from forged import forge_header
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import TINY, random_masks, random_round, region_round, write_clusters, write_dataset, write_superpixels

from stages.artifacts.header import SCHEMA_VERSION, Header, content_digest
from stages.artifacts.images import image_folder
from stages.artifacts.model import Model, write_model
from stages.artifacts.opening import KINDS, open_any
from stages.artifacts.verify import verify_one
from stages.commands import prepare, pseudo_label, score, select, train
from stages.registry import SETTINGS
from stages.reporting.inspection import describe
from stages.runtime.errors import BadInput
from stages.settings.base import fields_of
from stages.settings.evaluate import EvaluateSettings
from stages.settings.prepare import PrepareSettings
from stages.settings.pseudo_label import PseudoLabelSettings
from stages.settings.score import ScoreSettings
from stages.settings.select import SelectSettings
from stages.settings.text import shown
from stages.settings.train import TrainSettings

# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", SETTINGS)
class TestEverySettingsModel:
    def test_every_field_is_documented_and_has_a_default(self, stage):
        for name, uses in fields_of(SETTINGS[stage]).items():
            for _, field in uses:
                assert field.description, name
                assert not field.is_required(), name

    def test_text_reads_back_as_the_default(self, stage):
        model = SETTINGS[stage]
        texts = {name: shown(value) for name, value in model().flat().items()}
        assert model.load(texts) == model()

    def test_flat_names_say_everything(self, stage):
        model = SETTINGS[stage]
        assert model.load(model().flat()) == model()
        assert model().result_settings().keys() <= model().flat().keys() == model().defaults().keys()

    def test_a_name_means_one_thing(self, stage):
        """Groups that hold the same name are alternatives: never do two of them apply."""
        for name, uses in fields_of(SETTINGS[stage]).items():
            assert len({str(field.annotation) for _, field in uses}) == 1, name

    def test_frozen_and_no_unknown_keys(self, stage):
        model = SETTINGS[stage]
        with pytest.raises(BadInput, match="unknown setting"):
            model.load({"no_such_setting": 1})
        with pytest.raises(Exception, match="frozen"):
            model().seed = 3


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """One artifact of every kind, made by the stages."""
    from stages.commands import evaluate

    folder = tmp_path_factory.mktemp("artifacts")
    names = [f"i{number}" for number in range(6)]
    splits = dict(zip(names, ["train"] * 4 + ["val", "test"], strict=True))
    dataset = write_dataset(folder / "dataset.h5", random_masks(names, (32, 40), 3), 3, splits)
    regions = write_superpixels(folder, dataset)
    ledger = region_round(folder, dataset, 1, regions, random_round(folder, dataset, 0))
    model = train.run(dataset, ledger, folder / "model.safetensors", TrainSettings(**TINY, epochs=2, crop=(32, 32)))
    scores = score.run(dataset, folder / "scores.h5", ScoreSettings(), model)
    queries = select.run(dataset, scores, folder / "queries.h5", SelectSettings(), ledger)
    evaluation = evaluate.run(dataset, [model], folder / "evaluation.h5", EvaluateSettings())
    pseudo_labels = pseudo_label.run(dataset, ledger, model, folder / "pseudo.h5", PseudoLabelSettings(min_pixels=0))
    clusters = write_clusters(folder, dataset, regions)
    tiny = Path(__file__).parents[1] / "data" / "before" / "tiny.toml"
    several = prepare.run(str(tiny), None, folder / "several.h5", PrepareSettings(file_gb=1e-7))
    images = next(image_folder(several).iterdir())
    found = [dataset, images, regions, clusters, scores, queries, ledger, pseudo_labels, evaluation, model]
    return {open_any(path).header.kind: path for path in found}


def test_every_kind_is_covered(artifacts):
    assert set(artifacts) == {*KINDS, "model"}


@pytest.mark.parametrize("kind", [*KINDS, "model"])
class TestEveryKind:
    def test_verifies_and_describes_itself(self, artifacts, kind):
        faults, _ = verify_one(artifacts[kind])
        assert faults == []
        description = describe(open_any(artifacts[kind]))
        assert description["kind"] == kind
        assert description["arrays"]
        assert description["versions"]["torch"]

    def test_header_says_where_it_comes_from(self, artifacts, kind):
        header = open_any(artifacts[kind]).header
        assert header.created
        assert header.schema_version == SCHEMA_VERSION
        for ref in header.inputs.values():
            assert len(ref.digest) == 64
            assert (artifacts[kind].parent / ref.file).exists()

    def test_a_copy_is_refused_where_another_kind_is_needed(self, artifacts, kind):
        for other in KINDS.values():
            if other.kind != kind:
                with pytest.raises(BadInput):
                    other(artifacts[kind])

    def test_a_newer_major_schema_is_refused(self, artifacts, kind, tmp_path):
        newer = tmp_path / artifacts[kind].name
        if kind == "model":
            model = Model(artifacts[kind])
            header = Header.from_json(model.header.to_json() | {"schema_version": "2.0"})
            write_model(newer, header, model.weights("last"), None)
        else:
            newer.write_bytes(artifacts[kind].read_bytes())
            forge_header(newer, schema_version="2.0")
        with pytest.raises(BadInput, match="newer than"):
            open_any(newer)


@pytest.mark.parametrize("kind", KINDS)  # a model has no chunks; the digest over its tensors is checked on every load
def test_arrays_are_chunked_and_protected(artifacts, kind):
    with h5py.File(artifacts[kind]) as file:
        unprotected = []
        file.visititems(
            lambda name, item: (
                unprotected.append(name)
                if isinstance(item, h5py.Dataset) and item.size and not item.fletcher32
                else None
            )
        )
    assert unprotected == []


@given(
    attributes=st.dictionaries(st.text(min_size=1, max_size=5), st.integers() | st.text(max_size=5), max_size=3),
    shape=st.lists(st.integers(0, 4), max_size=3),
    checksum=st.text("0123456789abcdef", min_size=1, max_size=4),
)
@settings(max_examples=50, deadline=None)
def test_digest_changes_with_any_part_of_the_content(attributes, shape, checksum):
    base = content_digest("scores", attributes, {"a": ("<f4", tuple(shape), checksum)})
    assert base == content_digest("scores", dict(reversed(attributes.items())), {"a": ("<f4", tuple(shape), checksum)})
    others = [
        content_digest("queries", attributes, {"a": ("<f4", tuple(shape), checksum)}),
        content_digest("scores", attributes | {"new": 1}, {"a": ("<f4", tuple(shape), checksum)}),
        content_digest("scores", attributes, {"b": ("<f4", tuple(shape), checksum)}),
        content_digest("scores", attributes, {"a": ("<f8", tuple(shape), checksum)}),
        content_digest("scores", attributes, {"a": ("<f4", (*shape, 1), checksum)}),
        content_digest("scores", attributes, {"a": ("<f4", tuple(shape), checksum + "0")}),
    ]
    assert base not in others
