"""Named random streams: a draw depends only on the seed and on what is drawn, never on the order of the work."""

import hashlib

import numpy as np


def stream_key(seed: int, *names: str | int) -> int:
    """A 128-bit key for the stream called ``names``, e.g. ``stream_key(0, "select", round, image_id)``."""
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy generator of the stream called ``names``; cheap enough to make one per image."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, *names)))


def torch_seed(seed: int, *names: str | int) -> int:
    """A seed for ``torch.manual_seed`` and ``torch.Generator`` (63 bits, as torch requires)."""
    return stream_key(seed, *names) & (2**63 - 1)
