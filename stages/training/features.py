"""Learning the head alone, from features of the frozen backbone."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from stages.artifacts.computing import computed_with
from stages.artifacts.header import digest_of, recorded_versions
from stages.networks.features import FeatureFolder, KeptFeatures, backbone_digest
from stages.networks.layers import SplitNetwork
from stages.runtime.errors import BadInput
from stages.runtime.free_memory import free_memory
from stages.training.samples.maps import CACHE_SHARE, TrainingSamples
from stages.training.task import Task


class Head(nn.Module):
    """``network`` without its backbone: features to logits (B,C,H,W) at the ``size`` of the images."""

    def __init__(self, network: SplitNetwork):
        super().__init__()
        self.network = network

    def forward(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        return self.network.enlarged(self.network.decoded(features), size)


def open_features(task: Task, samples: TrainingSamples) -> KeptFeatures:
    """The features of the views of ``samples``, empty at first unless their folder has some.

    BadInput for a network that is not cut after its backbone, and for a folder with anything else in it.
    """
    network, settings = task.network, task.settings
    frozen, name = settings.optimisation.frozen, settings.network.architecture
    assert frozen is not None
    if not isinstance(network, SplitNetwork):
        raise BadInput(
            f"Architecture {name} does not separate its backbone, so no features can be kept. Set --views 0, or "
            "derive its network from stages.networks.layers.SplitNetwork."
        )
    computed = {name: value for name, value in computed_with(settings).items() if name != "compiled"}  # the head is
    made = [
        backbone_digest(network),
        settings.network.recorded(),
        task.dataset.digest,
        [settings.augmentation.flat(), samples.crop],
        [list(task.mean), list(task.std)],
        [computed, recorded_versions()],
    ]
    folder = None
    if frozen.features is not None:
        folder = FeatureFolder(Path(frozen.features), digest_of(made), 1e9 * frozen.features_gb)
    room = CACHE_SHARE * free_memory()
    return KeptFeatures(network, task.device, settings.execution.precision, folder, room)
