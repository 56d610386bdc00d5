"""Training on kept features, by real commands: killed and run again, by several processes, read by all later stages."""

import shutil
import signal

import pytest
from commands_support import NETWORK, assert_same

from stages.networks.features import folder_size

WORDS = (
    "train", "d.h5", "a0.h5", *NETWORK, "--epochs", "2", "--batch", "4", "--crop", "48,64", "--freeze", "backbone",
    "--views", "2", "--checkpoint-seconds", "0", "-o", "f.safetensors",
)  # fmt: skip
KEPT = (*WORDS, "--features", "kept")
PICTURE = "f.safetensors", "f.history.csv", "f.curve.png"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def frozen(world, preloaded, tmp_path_factory):
    """A copy of the world with a model that learned undisturbed from features in memory."""
    folder = tmp_path_factory.mktemp("frozen") / "place"
    shutil.copytree(world, folder)
    preloaded.run(*WORDS, cwd=folder).expect(0, out="wrote f.safetensors")
    return folder


def test_kills_while_features_are_kept_change_nothing(place, frozen, preloaded):
    """Run n dies at its n-th change of the disk, on top of what the runs before it left, until one gets through."""
    for point in range(1, 200, 7):
        done = preloaded.run(*KEPT, cwd=place, signal_at=(point, signal.SIGKILL))
        if done.code == 0:
            break
        assert done.code == -signal.SIGKILL, done
    assert point > 14
    assert_same(place / "f.safetensors", frozen / "f.safetensors")
    assert folder_size(place / "kept") > 0
    preloaded.run(*KEPT, cwd=place).expect(0, out="up to date")
    preloaded.run(*WORDS, cwd=place).expect(0, out="up to date")  # where features are kept is not what is learned


def test_two_processes_share_the_folder_and_train_one_model(place, preloaded):
    for output in ("one.safetensors", "two.safetensors"):
        done = [each.finish() for each in preloaded.launch(2, *KEPT[:-3], output, *KEPT[-2:], cwd=place)]
        done[0].expect(0, out=f"wrote {output}")
        done[1].expect(0)
    assert_same(place / "one.safetensors", place / "two.safetensors")


def test_two_trainings_at_once_may_keep_features_in_one_folder(place, frozen, preloaded):
    outputs = ("one.safetensors", "two.safetensors")
    both = [preloaded.start(*KEPT[:-3], output, *KEPT[-2:], cwd=place) for output in outputs]
    for process in both:
        process.finish().expect(0)
    for output in outputs:
        assert_same(place / output, frozen / "f.safetensors")


def test_later_stages_read_the_model_as_any_other(place, frozen, preloaded):
    for name in PICTURE:
        shutil.copy(frozen / name, place / name)
    for words in (
        ("score", "d.h5", "--model", "f.safetensors", "-o", "s.h5"),
        ("evaluate", "d.h5", "f.safetensors", "-o", "fe.h5"),
        ("verify", "f.safetensors"),
    ):
        preloaded.run(*words, cwd=place).expect(0)


def test_bad_input_is_one_sentence(refused):
    refused("train", "d.h5", "a0.h5", *NETWORK, "--views", "2", "-o", "x.safetensors", says="it is for freeze backbone")
    refused(
        *WORDS, "--features", ".", says="is in the folder of features, but is none. Pass an empty or new --features"
    )
