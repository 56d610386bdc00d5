"""`alseg train --objective teacher`: killed at any moment, the same command ends with the same model."""

import signal

import pytest
from commands_support import NETWORK, assert_same, without_speed

pytestmark = pytest.mark.slow

TRAIN = ("train", "d.h5", "a0.h5", *NETWORK, "--epochs", "3", "--batch", "2", "--checkpoint-seconds", "0")
TAUGHT = ("--objective", "teacher", "--cutmix", "1", "--feature-dropout", "0.3", "--threshold", "mean")


def test_killed_trainings_with_a_teacher_end_with_the_same_model(place, preloaded):
    words = (*TRAIN, *TAUGHT, "-o")
    preloaded.run(*words, "whole.safetensors", cwd=place).expect(0, out="wrote whole.safetensors")
    kills = 0
    for change in (7, 12, 17):  # of files: each checkpoint is a few
        done = preloaded.run(*words, "parts.safetensors", cwd=place, signal_at=(change, signal.SIGKILL))
        kills += done.code == -signal.SIGKILL
    assert kills > 1
    assert list((place / "parts.safetensors.work").glob("step*.pt")), "it goes on from here"
    preloaded.run(*words, "parts.safetensors", cwd=place).expect(0, out="wrote parts.safetensors")
    assert_same(place / "parts.safetensors", place / "whole.safetensors")
    assert without_speed(place / "parts.history.csv") == without_speed(place / "whole.history.csv")


def test_what_does_not_fit_a_teacher_is_refused(refused):
    refused(
        *TRAIN, "--objective", "teacher", "--student", "class-sets", "-o", "x.safetensors",
        says="a0.h5 has no class sets. Set --student labels.",
    )  # fmt: skip
    refused(
        *TRAIN, "--objective", "teacher", "--student", "adversarial", "-o", "x.safetensors",
        says="Unknown objective 'adversarial'.",
    )  # fmt: skip
    refused(*TRAIN, "--cutmix", "0.3", "-o", "x.safetensors", says="cutmix does not apply to objective labels")
