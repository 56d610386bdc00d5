"""Whether the predictions of a batch fit into memory, before a stage begins."""

from collections.abc import Iterable, Mapping, Sequence

from stages.networks.predictor import equal_size_groups, scaled_size
from stages.pixels.grids import Size
from stages.runtime.devices import choose_device
from stages.runtime.free_memory import MORE_MEMORY, free_memory_of, require_memory
from stages.settings.common import NetworkUse

FLOAT = 4  # bytes of a number


def largest_batch(ids: Sequence[str], sizes: Mapping[str, Size], batch: int, scale: float = 1.0) -> tuple[int, Size]:
    """Images and their size, times ``scale``, in the batch with most pixels of those that `image_batches` makes."""
    groups = equal_size_groups(ids, sizes, batch)
    batches = ((len(group), scaled_size(sizes[group[0]], scale)) for group in groups)
    return max(batches, key=lambda each: each[0] * each[1][0] * each[1][1], default=(0, (0, 0)))


def batch_bytes(size: Size, bands: int, outputs: int, learns: bool = False) -> int:
    """Bytes of an image of a batch that are certain to exist at one time.

    Its pixels (K,H,W) u8 and its logits (C,H,W) f32, in training also their gradient. What the network keeps in between
    depends on its architecture and is not counted.
    """
    height, width = size
    return height * width * (bands + FLOAT * outputs * (2 if learns else 1))


def require_batch_memory(
    stage: str, count: int, size: Size, bands: int, outputs: int, device: str, learns: bool = False
) -> None:
    """StageFailed if the images and logits of ``count`` images of ``size`` exceed the free memory of ``device``."""
    each = batch_bytes(size, bands, outputs, learns)
    fewest = 2 if learns else 1
    fitting = free_memory_of(device) // max(each, 1)
    more = "Use a GPU with more memory." if device == "cuda" else MORE_MEMORY
    smaller = f"Set --batch {fitting} or less." if fitting >= fewest else f"Use smaller images or crops. {more}"
    images = f"{count} images" if count > 1 else "one image"
    why = f"for a batch of {images} of {size[1]}x{size[0]} with {outputs} classes"
    require_memory(count * each, stage, why, smaller, device)


def require_prediction_memory(
    stage: str,
    ids: Iterable[str],
    sizes: Mapping[str, Size],
    use: NetworkUse,
    bands: int,
    outputs: int,
    scale: float = 1.0,
    batch: int | None = None,
) -> None:
    """`require_batch_memory` of the largest batch of the images ``ids``, resized by ``scale``.

    ``batch``: images in it, if not as many as a network is used with.
    """
    count, size = largest_batch(list(ids), sizes, batch or use.batch, scale)
    require_batch_memory(stage, count, size, bands, outputs, choose_device(use.device).type)
