"""A network learning labels by any objective, and unlabelled pixels from the running mean of its own weights."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.networks.dropped_features import doubled, seen_twice
from stages.pixels.void import VOID
from stages.runtime.console import say
from stages.runtime.errors import BadInput
from stages.training.colour import augment_colour
from stages.training.cutmix import Mix, draw_mix
from stages.training.features import Head
from stages.training.learner import Learner
from stages.training.learners.network import NetworkLearner
from stages.training.learners.teacher_losses import (
    Threshold,
    Thresholds,
    believed,
    confidence_sums,
    move_towards,
    taught_loss,
    warmed_up,
)
from stages.training.samples.loading import load_batches
from stages.training.samples.maps import Batch, labelled_pixels, place_in_turns
from stages.training.samples.taught import LABELLED, UNLABELLED, TaughtBatch, TaughtKey, TaughtSamples
from stages.training.task import Task


class TeacherLearner:
    """Wraps the learner that ``make_student`` makes: its network learns, the teacher is validated and kept.

    The teacher sees each image in a random window (weak view), the student in the same window, in other colours and
    with boxes of other images (strong view); all labels move with their pixels. The student learns the labels by its
    own objective, and the teacher's labels of open pixels by cross-entropy. A step costs one forward pass of the
    teacher more. With ``feature_dropout`` the head runs a second time, on features with channels dropped. From kept
    features of a frozen backbone, both see a fixed view in its own colours, and boxes are exchanged in the features.

    Images without a label are in each batch in proportion to the labelled ones, at most as many.
    """

    training_only: tuple[str, ...] = ("student", "thresholds")

    def __init__(
        self,
        task: Task,
        make_student: Callable[[Task], Learner],
        *,
        momentum: float,
        taught_from: float,
        taught_weight: float,
        unlabelled_split: str,
        cutmix: float,
        feature_dropout: float,
        threshold: Threshold,
        confidence: float,
    ):
        self.teacher = copy.deepcopy(task.network).requires_grad_(False).eval()
        student = make_student(task)
        if not isinstance(student, NetworkLearner):
            raise BadInput(
                f"A teacher cannot wrap {type(student).__name__}. Derive it from "
                "stages.training.learners.network.NetworkLearner."
            )
        if feature_dropout and getattr(task.network, "shallow_tap", None) is not None:
            raise BadInput("--feature-dropout does not work with --shallow-tap. Set --feature-dropout 0.")
        if feature_dropout and task.settings.execution.compile:  # compiled code does not see hooks that come and go
            raise BadInput("--feature-dropout does not work with --compile. Leave out one of them.")
        self.student, self.settings, self.ranks = student, task.settings, task.ranks
        student.evaluated = self.teacher
        known = student.named_classes()
        self.known = torch.from_numpy(known).to(task.device)
        self.thresholds = Thresholds(len(known), threshold, confidence).to(task.device)
        self.modules: dict[str, nn.Module] = {
            "network": self.teacher,
            "student": task.network,
            "thresholds": self.thresholds,
        }
        self.criterion, self.lower_is_better = student.criterion, student.lower_is_better
        self.validates, self.steps_per_epoch = student.validates, student.steps_per_epoch
        self.momentum, self.taught_weight = momentum, taught_weight
        self.cutmix, self.feature_dropout = cutmix, feature_dropout
        self.begins = int(taught_from * self.settings.optimisation.epochs * self.steps_per_epoch)
        self.step = 0
        self.samples = TaughtSamples(student.samples)
        self.unlabelled = self.find_unlabelled(unlabelled_split)
        if self.ranks.is_main and not known.all():
            names = [name for name, named in zip(student.class_names(), known, strict=False) if not named]
            say(f"No answer names {', '.join(names)}: the teacher gives no pixel such a label.")

    def find_unlabelled(self, split: str) -> int:
        """Images without a label in each batch; BadInput if there is nothing for a teacher to label."""
        samples, batch = self.student.samples, self.settings.optimisation.batch
        samples.add_unlabelled(split)
        share = min(batch, round(batch * len(samples.unlabelled) / len(samples)))
        if share or any(not samples.answered(image).all() for image in samples.ids):
            return share
        if samples.unlabelled:
            return 1
        raise BadInput(
            f"{self.student.labels.path} leaves no pixel without an answer, so there is nothing for a teacher to "
            "label. Set --objective labels."
        )

    def train(self) -> None:
        self.student.train()
        self.teacher.eval()

    def optimisers(self) -> dict[str, Optimizer]:
        return self.student.optimisers()

    def share_gradients(self, name: str) -> None:
        self.student.share_gradients(name)

    def end_step(self) -> None:
        """Shares the statistics of the student, then moves the teacher towards it."""
        self.student.end_step()
        move_towards(self.teacher, self.student.network, warmed_up(self.momentum, self.step))
        self.step += 1

    def batches(self, first: int) -> Iterator[TaughtBatch]:
        self.step, student = first, self.student
        return load_batches(self.samples, self.keys(first), student.workers, student.device.type == "cuda")

    def keys(self, first: int) -> Iterator[list[TaughtKey]]:
        """The samples of this process's share of each batch from step ``first`` on."""
        count, seed = self.unlabelled, self.settings.seed
        for step, labelled in enumerate(self.student.keys(first), first):
            places = range(step * count + self.ranks.rank, (step + 1) * count, self.ranks.size)
            drawn = [place_in_turns(place, len(self.student.samples.unlabelled), seed, UNLABELLED) for place in places]
            yield [*((LABELLED, *key) for key in labelled), *((UNLABELLED, *key) for key in drawn)]

    def contents(self, step: int) -> str:
        images = [self.samples.image_of(key) for key in next(self.keys(step)) if key[0] == UNLABELLED]
        return self.student.contents(step) + (f" and unlabelled images {', '.join(images)}" if images else "")

    def images_in(self, batch: TaughtBatch) -> int:
        return self.student.images_in(batch.batch)

    def updates(self, batch: TaughtBatch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        student, own, seed = self.student, batch.batch, self.settings.seed
        size = (own.images.shape[-2], own.images.shape[-1])
        mix = draw_mix(len(own.images), size, self.cutmix, seed, self.step, self.ranks.rank)
        if mix is not None:
            labels = mix(own.labels)
            own = replace(own, labels=labels, labelled=labelled_pixels(labels, own.sets))
        labelled = own.labelled
        if self.ranks.size > 1:  # on the CPU, so that no process waits for its GPU
            labelled = int(self.ranks.sum(torch.tensor(labelled)))
        teaches = self.step >= self.begins
        if not labelled and not teaches:
            return
        open_pixels = batch.open.to(student.device, non_blocking=True)
        see = self.seen if student.features is None else self.seen_features
        logits, targets = see(own, open_pixels if teaches else None, mix)
        losses = {"loss": logits.new_zeros(())}
        if labelled:  # boxes may have covered all of few labels
            losses = student.losses(logits[: len(own.images)], own)
        supervised = losses["loss"]
        parts = {"supervised": supervised.detach(), **{name: each for name, each in losses.items() if name != "loss"}}
        if targets is None:
            yield "network", {"loss": supervised, **parts}
            return
        # DDP averages gradients over the processes; the factor makes it the mean over the open pixels of all of them
        factor = self.ranks.size / self.ranks.sum(open_pixels.sum()).clamp(min=1)
        taught = factor * taught_loss(logits, targets if mix is None else mix(targets))
        parts |= {"taught": taught.detach(), "accepted": factor * (targets != VOID).sum()}
        yield "network", {"loss": supervised + self.taught_weight * taught, **parts}

    def seen(self, own: Batch, open_pixels: Tensor | None, mix: Mix | None) -> tuple[Tensor, Tensor | None]:
        """Logits (B or 2B,C,H,W) of the strong view, and labels of ``open_pixels``, if given, by the weak one."""
        student = self.student
        images, targets = own.images.to(student.device, non_blocking=True).float() / 255, None
        if open_pixels is not None:
            with torch.no_grad(), student.precise():
                targets = self.labels_of(self.teacher(student.normalised(images)), open_pixels)
        strong = augment_colour(images, own.colours)
        if mix is not None:
            strong = mix(strong)
        with seen_twice(student.network, 0.0 if targets is None else self.feature_dropout), student.precise():
            return student.forward(student.normalised(strong)), targets

    def seen_features(self, own: Batch, open_pixels: Tensor | None, mix: Mix | None) -> tuple[Tensor, Tensor | None]:
        """As `seen`, from the kept features of fixed views, in which the boxes are exchanged."""
        student, size = self.student, own.images.shape[-2:]
        features, targets = student.kept_features(own), None
        if open_pixels is not None:
            with torch.no_grad(), student.precise():
                targets = self.labels_of(Head(self.teacher)(features, size), open_pixels)  # type: ignore[arg-type]
        if mix is not None:
            features = mix.mixed_features(features)
        if self.feature_dropout and targets is not None:
            features = doubled(features, self.feature_dropout, own.images.shape)
        with student.precise():
            return student.forward(features, size), targets

    def labels_of(self, logits: Tensor, open_pixels: Tensor) -> Tensor:
        """(B,H,W) u8 labels by the teacher's ``logits`` (B,C,H,W), 255 = none; takes in how sure it is."""
        probabilities = logits.float().softmax(1)
        sums = self.ranks.sum(confidence_sums(probabilities, open_pixels))
        count = self.ranks.sum(open_pixels.sum())
        self.thresholds.update(sums, count, warmed_up(self.momentum, self.step - self.begins))
        return believed(probabilities, open_pixels, self.thresholds(), self.known)

    def validate(self) -> dict[str, float] | None:
        return self.student.validate()

    def counts(self) -> dict[str, Any]:
        used = len(self.student.samples.unlabelled) if self.unlabelled else 0
        return self.student.counts() | {"unlabelled_images": used}
