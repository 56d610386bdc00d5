"""Label Studio's masks: RGBA images in the bit stream of the JavaScript library @thi.ng/rle-pack.

Inside is where alpha is above half of its highest value: the brush of its page smooths borders. The head of the stream
has 32 bits for the number of values, 5 for the bits of a value less 1, and four times 4 for the bits of a length less
1. Blocks follow: a bit that says whether one value is repeated, 2 bits that choose one of the four sizes, a length less
1 of so many bits, and the one value or all of them. The most significant bit comes first.
"""

import numpy as np

from stages.pixels.grids import Size

SIZES = (3, 4, 8, 16)  # bits of a length, those of the library
LONGEST = 1 << SIZES[-1]
CHANNELS, WORD = 4, 8
HEAD = 32 + 5 + 4 * len(SIZES)
MOST_PIXELS = 1 << 28


def unpack_mask(content: bytes, size: Size) -> np.ndarray:
    """(H,W) bool of what is inside; ValueError unless the stream is that of an image of ``size``."""
    values = size[0] * size[1] * CHANNELS
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError("has more pixels than can be read")
    bits = np.unpackbits(np.frombuffer(content, dtype=np.uint8))
    text = (bits + ord("0")).tobytes().decode()
    if len(text) < HEAD or int(text[:32], 2) != values or int(text[32:37], 2) + 1 != WORD:
        raise ValueError(f"is no mask of {size[1]}x{size[0]} pixels")
    sizes = [int(text[start : start + 4], 2) + 1 for start in range(37, HEAD, 4)]
    found = np.zeros(values, dtype=np.uint8)
    at, done = HEAD, 0
    while done < values:
        if at + 3 > len(text):
            raise ValueError("ends in the middle")
        long = sizes[int(text[at + 1 : at + 3], 2)]
        count = int(text[at + 3 : at + 3 + long] or "0", 2) + 1
        start = at + 3 + long
        at = start + WORD * (1 if text[at] == "1" else count)
        if at > len(text) or done + count > values:
            raise ValueError("ends in the middle")
        words = np.packbits(bits[start:at])
        found[done : done + count] = words
        done += count
    alpha = found[CHANNELS - 1 :: CHANNELS].reshape(size)
    return alpha > alpha.max() // 2


def pack_mask(inside: np.ndarray) -> bytes:
    """The stream of a mask (H,W) bool: all four values of a pixel are 255 inside and 0 outside."""
    flat = inside.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size)) * CHANNELS
    pieces = -(-lengths // LONGEST)  # of a run longer than one block holds
    counts = np.full(int(pieces.sum()), LONGEST)
    counts[pieces.cumsum() - 1] = lengths - (pieces - 1) * LONGEST
    values = np.repeat(flat[starts], pieces) * 255
    blocks = np.zeros((len(counts), 3 + SIZES[-1] + WORD), dtype=np.uint8)
    blocks[:, :3] = 1  # repeated, and the last of the sizes
    blocks[:, 3 : 3 + SIZES[-1]] = in_bits(counts - 1, SIZES[-1])
    blocks[:, 3 + SIZES[-1] :] = in_bits(values, WORD)
    head = [in_bits(np.array([value]), wide).ravel() for value, wide in ((flat.size * CHANNELS, 32), (WORD - 1, 5))]
    return np.packbits(np.concatenate([*head, in_bits(np.array(SIZES) - 1, 4).ravel(), blocks.ravel()])).tobytes()


def in_bits(values: np.ndarray, wide: int) -> np.ndarray:
    """(n,wide) u8 bits of the ``values`` (n,), the most significant first."""
    return (values[:, None] >> np.arange(wide - 1, -1, -1) & 1).astype(np.uint8)
