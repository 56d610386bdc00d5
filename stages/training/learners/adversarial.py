"""A segmentation network learning from masks and unlabelled images, with a discriminator (spec als4gan.md 4)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stages.networks.discriminator import Discriminator
from stages.pixels.void import VOID
from stages.runtime.randomness import torch_seed
from stages.training.colour import augment_colour
from stages.training.learners.adversarial_losses import (
    accepted,
    discriminator_loss,
    feature_matching_loss,
    known_of,
    mean_loss,
    one_hot,
    pair,
    self_training_loss,
    total_loss,
)
from stages.training.learners.network import NetworkLearner
from stages.training.losses.cross_entropy import cross_entropy
from stages.training.optimisers import fused
from stages.training.samples.maps import TrainingSamples
from stages.training.samples.streams import StreamBatch, StreamPart, StreamSamples
from stages.training.sharing import average_over_ranks, share_normalisation
from stages.training.task import Task


class AdversarialLearner(NetworkLearner):
    """Cross-entropy on masks; on unlabelled images feature matching, and self-training on accepted predictions.

    The discriminator scores pairs of a label map and its image; a prediction is accepted if its score exceeds the gate.
    Both networks learn in each step, each with its own optimiser. The history shows their balance: mean scores of real
    and predicted pairs, and the share of accepted predictions.
    """

    samples_kind = StreamSamples
    fewest_images = 0

    def __init__(
        self,
        task: Task,
        *,
        class_weights: str,
        unlabelled_split: str,
        feature_matching: float,
        self_training: float,
        self_training_from: int,
        gate: float,
        discriminator_lr: float,
        discriminator_width: int,
    ):
        self.unlabelled_split = unlabelled_split
        super().__init__(task, class_weights)
        self.feature_matching, self.self_training, self.gate = feature_matching, self_training, gate
        self.self_training_from, self.discriminator_lr = self_training_from, discriminator_lr
        torch.manual_seed(torch_seed(self.settings.seed, "discriminator"))
        self.discriminator = Discriminator(self.classes, discriminator_width, len(self.mean)).to(self.device)
        self.modules = {"network": self.network, "discriminator": self.discriminator}
        assert isinstance(self.samples, StreamSamples)
        optimisation = self.settings.optimisation
        self.steps_per_epoch = optimisation.steps_per_epoch or -(-len(self.samples.unlabelled) // optimisation.batch)
        self.step = 0

    def open_samples(self, task: Task, **more: Any) -> TrainingSamples:
        return super().open_samples(task, unlabelled_split=self.unlabelled_split, **more)

    def wrapped(self, module: nn.Module) -> nn.Module:
        share_normalisation(module, self.device)
        return module  # see share_gradients

    def train(self) -> None:
        super().train()
        self.discriminator.train()

    def optimisers(self) -> dict[str, Optimizer]:
        """The network's, and Adam with moments 0.9 and 0.99 for the discriminator (spec 4.3)."""
        own = {"params": list(self.discriminator.parameters()), "lr": self.discriminator_lr}
        adam = torch.optim.Adam([own], betas=(0.9, 0.99), fused=fused(self.device))
        return super().optimisers() | {"discriminator": adam}

    def share_gradients(self, name: str) -> None:
        """Averages them here: in DDP the network cannot run twice and the discriminator four times in one step."""
        learned = self.modules[name].parameters()
        average_over_ranks([each.grad for each in learned if each.grad is not None], self.ranks)

    def batches(self, first: int) -> Iterator[StreamBatch]:
        self.step = first
        return super().batches(first)

    def keys(self, first: int) -> Iterator[list[Any]]:
        assert isinstance(self.samples, StreamSamples)
        epochs, batch = self.settings.optimisation.epochs, self.settings.optimisation.batch
        return self.samples.keys(first, epochs * self.steps_per_epoch, batch, self.ranks.rank, self.ranks.size)

    def images_in(self, batch: Any) -> int:
        return 2 * len(batch.labelled.images) * self.ranks.size  # those that the network sees

    def updates(self, batch: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
        fake, real, losses = self.generate(batch)
        yield "network", losses
        yield "discriminator", self.discriminate(fake, real)
        self.step += 1

    def generate(self, batch: StreamBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Predicted and real pairs, detached, and the losses of the network (spec 4.2, steps 1 to 5)."""
        self.discriminator.requires_grad_(False)
        labels = batch.labelled.labels.to(self.device, non_blocking=True)
        with self.precise():
            logits = self.forward(self.normalised(self.coloured(batch.labelled)))
            unlabelled = self.coloured(batch.unlabelled)
            predicted = self.forward(self.normalised(unlabelled)).float()
        total, mass = cross_entropy(logits, labels, self.weights)
        supervised = self.mean_over_ranks(total, mass)
        valid = batch.unlabelled.valid.to(self.device, non_blocking=True)
        masks = batch.real.labels.to(self.device, non_blocking=True)
        inside = batch.real.valid.to(self.device, non_blocking=True)
        fake = pair(predicted.softmax(1), unlabelled, valid, known_of(masks, inside, len(valid)))
        real = pair(one_hot(masks, predicted.shape[1]), self.coloured(batch.real), inside, masks != VOID)
        with self.precise():
            _, fake_features = self.discriminator(fake)
            with torch.no_grad():
                _, real_features = self.discriminator(real)
        matching = feature_matching_loss(self.mean_features(real_features), self.mean_features(fake_features))
        believed = accepted(self.judged(fake), self.gate)
        share = believed.float().mean()
        trained = self.mean_over_ranks(*self_training_loss(predicted, believed, valid))
        active = self.step >= self.self_training_from
        loss = total_loss(supervised, matching, trained, self.feature_matching, self.self_training if active else 0.0)
        parts = {"supervised": supervised, "matching": matching, "self_training": trained, "accepted": share}
        losses = {"loss": loss} | {name: value.detach() for name, value in parts.items()}
        return fake.detach(), real, losses

    def mean_over_ranks(self, total: Tensor, mass: Tensor) -> Tensor:
        """This process's part of the mean loss over the whole batch; the mean over the processes is that mean."""
        return mean_loss(total * self.ranks.size, self.ranks.sum(mass))

    def mean_features(self, features: Tensor) -> Tensor:
        """(1,D) mean of the rows of (n,D) in all processes, each with as many.

        The gradient reaches this process's rows as if they were all; the processes' gradients are averaged later.
        """
        own = features.to(torch.promote_types(features.dtype, torch.float32)).mean(0, keepdim=True)
        return own + (self.ranks.sum(own) / self.ranks.size - own.detach())

    def judged(self, pairs: Tensor) -> Tensor:
        """(B,) probability of real of each pair, by the discriminator in eval mode."""
        self.discriminator.eval()
        with torch.no_grad(), self.precise():
            scores, _ = self.discriminator(pairs)
        self.discriminator.train()
        return scores.float().sigmoid().flatten()

    def discriminate(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """The losses of the discriminator (spec 4.2, step 6)."""
        self.discriminator.requires_grad_(True)
        with self.precise():
            real_scores, _ = self.discriminator(real)
            fake_scores, _ = self.discriminator(fake)
        return {
            "loss": discriminator_loss(real_scores, fake_scores),
            "real": real_scores.detach().float().sigmoid().mean(),
            "fake": fake_scores.detach().float().sigmoid().mean(),
        }

    def coloured(self, part: StreamPart) -> Tensor:
        """(B,3,H,W) f32 in [0,1], augmented in colour."""
        return augment_colour(part.images.to(self.device, non_blocking=True).float() / 255, part.colours)
