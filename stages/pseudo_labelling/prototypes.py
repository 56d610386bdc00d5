"""Dense labels from answers that name all classes of a region: local prototypes, and their spread by one ring.

Source: multi_class_query.md 7.2 to 7.4. In each queried region s, each class of its answer is represented by one pixel,
the prototype; the pixels of s take the class of the most similar prototype of s, and regions around s that were not
queried take a class at pixels whose similarity exceeds the one that half of s reaches. All inputs are of one image and
on one device, as are the results:

features (D,H,W) f32, of unit length per pixel unless ``normalise`` is set, contiguous or channels last (which is
faster); scores (C,H,W) f32, finite; labels (H,W) i64 region ids, -1 = no region; queried (A,) i64 distinct ids in any
order, including ids without pixels; sets (A,C) bool the classes of the answers, C <= 255, possibly empty.

Similarities are inner products. Their rounding depends on the device's kernels and the shapes, so similarities that
differ by no more than SIMILARITY_TOLERANCE count as equal.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from stages.pixels.void import VOID

SIMILARITY_TOLERANCE = 1e-6
SHORTEST = 1e-12  # vectors below this length have no direction
PIECE = 256  # pixels of one region that are compared at a time
CHUNK = 2**22  # values held at a time, of features as well as of similarities

Expansion = Literal["none", "reference", "largest"]
SpreadRule = Literal["reference", "largest"]
Quantile = Literal["median", "minimum"]
Extent = Literal["regions", "image"]


def pseudo_labels(
    features: Tensor,
    scores: Tensor,
    labels: Tensor,
    queried: Tensor,
    sets: Tensor,
    expansion: Expansion,
    quantile: Quantile = "median",
    temperature: float = 1.0,
    normalise: bool = False,
) -> Tensor:
    """(H,W) u8 classes of the queried regions and, by ``expansion``, of pixels in the ring around them; 255: none.

    Inputs as above. A queried region without a class stays 255. ``normalise`` gives the result of ``unit(features)``
    without a second copy of the features. Raises ValueError if an id is queried twice or is negative, or if there are
    more than 255 classes.
    """
    with torch.no_grad():
        points = prototypes(scores, labels, queried, sets, temperature)
        index, owner, classes, similarity = localise(features, labels, queried, sets, points, normalise)
        if expansion == "none":
            result = torch.full(labels.shape, VOID, dtype=torch.uint8, device=labels.device)
        else:
            tau = thresholds(owner, classes, similarity, sets, quantile)
            result = expand(features, labels, queried, sets, points, tau, expansion, normalise)
        result.view(-1)[index] = classes
    return result


def unit(features: Tensor) -> Tensor:
    """(D,...) f32 vectors along the first axis scaled to length 1; zero vectors stay 0."""
    return features / torch.linalg.vector_norm(features, dim=0, keepdim=True).clamp(min=SHORTEST)


def pixels_of(labels: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels of the (R,) i64 distinct ``regions`` of (H,W) i64 ``labels``, one region after the other.

    Returns index (P,) i64, the flat indices, ascending within a region, and size (R,) i64, which may be 0.
    Raises ValueError if an id occurs twice or is negative.
    """
    if len(regions) == 0:
        return labels.new_zeros(0), labels.new_zeros(0)
    ordered = regions.sort().values
    if int(ordered[0]) < 0 or bool((ordered[1:] == ordered[:-1]).any()):
        raise ValueError("a region is queried twice, or has a negative id")
    flat = labels.reshape(-1)
    # The last entry is for pixels without a region. int32, because small integers are sorted by radix.
    position = torch.full((max(int(flat.max()), int(ordered[-1])) + 2,), -1, dtype=torch.int32, device=labels.device)
    position[regions] = torch.arange(len(regions), dtype=torch.int32, device=labels.device)
    found = position[flat]
    index = (found >= 0).nonzero()[:, 0]
    owner, order = found[index].sort(stable=True)
    return index[order], torch.bincount(owner, minlength=len(regions))


def neighbours8(labels: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct pairs of one of the (R,) i64 ``regions`` and another region of (H,W) i64 ``labels`` that touch.

    Regions touch if a pixel of one is among the eight around a pixel of the other. Returns inside (E,) i64 ids from
    ``regions`` and outside (E,) i64 ids of any region, ascending by outside, then inside.
    """
    index, size = pixels_of(labels, regions)
    width = labels.shape[1] + 2
    around = torch.nn.functional.pad(labels, (1, 1, 1, 1), value=-1).view(-1)
    middle = (index // labels.shape[1] + 1) * width + index % labels.shape[1] + 1
    steps = torch.tensor([-width - 1, -width, 1 - width, -1, 1, width - 1, width, width + 1], device=labels.device)
    outside = around[middle + steps[:, None]]
    inside = regions.repeat_interleave(size).expand_as(outside)
    between = (outside >= 0) & (outside != inside)
    count = int(labels.max()) + 1
    codes = torch.unique(outside[between] * count + inside[between])
    return codes % count, codes // count


def prototypes(scores: Tensor, labels: Tensor, queried: Tensor, sets: Tensor, temperature: float = 1.0) -> Tensor:
    """(A,C) i64 flat index of each region's pixel with the largest probability of a class of its set, otherwise -1.

    Probabilities are softmax(scores / temperature). Ties go to the lowest index. Regions without pixels get -1.
    """
    index, size = pixels_of(labels, queried)
    owner = torch.arange(len(queried), device=labels.device).repeat_interleave(size)
    # Computed in f64 and rounded, because f32 kernels give equal pixels different last digits.
    probability = (scores.flatten(1).index_select(1, index) / temperature).softmax(0, dtype=torch.float64).float()
    behind, regions = labels.numel(), owner.expand_as(probability)
    largest = probability.new_full((len(scores), len(queried)), -1.0)
    largest = largest.scatter_reduce(1, regions, probability, "amax")
    places = torch.where(probability == largest.index_select(1, owner), index, behind)
    first = index.new_full(largest.shape, behind).scatter_reduce(1, regions, places, "amin").T
    return torch.where(sets & (size > 0)[:, None], first, -1)


def localise(
    features: Tensor, labels: Tensor, queried: Tensor, sets: Tensor, points: Tensor, normalise: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The class of the most similar prototype of its own region, for pixels of queried regions.

    Ties go to the smallest class. points (A,C) i64 from ``prototypes``. Returns four (P,) tensors in no particular
    order, for all pixels of regions that have a class: flat index i64, owner i64 the position of its region in
    ``queried``, class u8, and similarity f32 to the prototype of that class.
    """
    listed = class_lists(sets)
    rows = sets.any(1).nonzero()[:, 0]
    found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = [
        (rows[:0], rows[:0], rows.new_zeros(0, dtype=torch.uint8), features.new_zeros(0))
    ]
    for pixels, inside, source, similarity in compared(
        features, labels, queried[rows], rows[:, None], listed, points, normalise
    ):
        candidates = listed[source][:, 0, : similarity.shape[2], None]
        similarity = similarity[:, 0]
        classes = smallest_of_largest(similarity, candidates, 1)
        reached = similarity.where(candidates == classes[:, None], -torch.inf).amax(1)
        found.append((pixels[inside], source.expand_as(pixels)[inside], classes[inside], reached[inside]))
    index, owner, assigned, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    return index, owner, assigned, values


def thresholds(
    owner: Tensor, classes: Tensor, similarity: Tensor, sets: Tensor, quantile: Quantile = "median"
) -> Tensor:
    """(A,C) f32 lower median (or minimum) of the similarities of the pixels that took each class; 1 if none did.

    owner, classes, similarity (P,) from ``localise``.
    """
    regions, number = sets.shape
    group = owner * number + classes
    order = similarity.argsort()
    order = order[group[order].argsort(stable=True)]
    size = torch.bincount(group, minlength=regions * number)
    begin = size.cumsum(0) - size
    taken = size > 0
    at = begin + (size - 1) // 2 if quantile == "median" else begin
    result = similarity.new_ones(regions * number)
    result[taken] = similarity[order[at[taken]]]
    return result.view(regions, number)


def expand(
    features: Tensor,
    labels: Tensor,
    queried: Tensor,
    sets: Tensor,
    points: Tensor,
    tau: Tensor,
    rule: SpreadRule,
    normalise: bool = False,
) -> Tensor:
    """(H,W) u8 classes that queried regions give to pixels of unqueried regions that touch them; 255 elsewhere.

    points (A,C) i64 from ``prototypes``, tau (A,C) f32 from ``thresholds``. Rule "reference": a region gives a pixel
    the class of its most similar prototype if the similarity to any of its prototypes exceeds the threshold of that
    prototype; if several regions do, the one with the highest id decides. Rule "largest": of all neighbouring
    prototypes whose own threshold is exceeded, the most similar one decides. Ties go to the smallest class.
    """
    result = torch.full(labels.shape, VOID, dtype=torch.uint8, device=labels.device)
    listed = class_lists(sets)
    regions, sources = givers(labels, queried, sets)
    limit = torch.nn.functional.pad(tau, (0, VOID + 1 - tau.shape[1], 0, 1)).gather(1, listed.long())
    for pixels, inside, source, similarity in compared(features, labels, regions, sources, listed, points, normalise):
        width = similarity.shape[2]
        candidates = listed[source][:, :, :width, None]
        passed = similarity > limit[source][:, :, :width, None] + SIMILARITY_TOLERANCE
        if rule == "reference":
            classes = smallest_of_largest(similarity, candidates, 2)
            turn = torch.arange(classes.shape[1], device=labels.device)[:, None]  # ascending ids, see `givers`
            last = turn.where(passed.any(2), -1).amax(1, keepdim=True)
            given = classes.gather(1, last.clamp(min=0)).masked_fill(last < 0, VOID)[:, 0]
        else:
            similarity = similarity.masked_fill(~passed, -torch.inf).flatten(1, 2)
            candidates = candidates.where(passed, VOID).flatten(1, 2)
            given = smallest_of_largest(similarity, candidates, 1)
        result.view(-1)[pixels[inside]] = given[inside]
    return result


def argmax_in_candidates(scores: Tensor, labels: Tensor, queried: Tensor, sets: Tensor) -> Tensor:
    """(H,W) u8 class of the largest score among the region's classes, the smallest if tied; 255 without any."""
    index, size = pixels_of(labels, queried)
    allowed = sets.repeat_interleave(size, 0).T
    best = scores.flatten(1).index_select(1, index).masked_fill(~allowed, -torch.inf).argmax(0)
    result = torch.full(labels.shape, VOID, dtype=torch.uint8, device=labels.device)
    result.view(-1)[index] = best.where(allowed.any(0), VOID).to(torch.uint8)
    return result


def naive_argmax(scores: Tensor, labels: Tensor, queried: Tensor, extent: Extent = "regions") -> Tensor:
    """(H,W) u8 class of the largest score, the smallest if tied: everywhere, or 255 outside the queried regions."""
    if extent == "image":
        return scores.argmax(0).to(torch.uint8)
    return argmax_in_candidates(
        scores, labels, queried, torch.ones(len(queried), len(scores), dtype=torch.bool, device=labels.device)
    )


def class_lists(sets: Tensor) -> Tensor:
    """(A+1,M) u8 the classes of each of the (A,C) sets, ascending, then VOID; the last row is an empty set."""
    regions, number = sets.shape
    if number > VOID:
        raise ValueError(f"{number} classes do not fit into a map of bytes, which can hold {VOID}")
    width = int(sets.sum(1).max()) if regions else 0
    ids = torch.arange(number, dtype=torch.uint8, device=sets.device)
    listed = ids.where(sets, VOID).sort(1).values[:, :width]
    return torch.nn.functional.pad(listed, (0, 0, 0, 1), value=VOID)


def givers(labels: Tensor, queried: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """The unqueried regions (R,) i64 that touch queried regions with a class, and these queried regions for each.

    The latter (R,S) i64 are positions in ``queried``, ascending by the id of the region, padded with A.
    """
    named = queried[sets.any(1)]
    count = max(int(labels.max()), int(queried.max()) if len(queried) else 0) + 1
    position = torch.full((count,), -1, device=labels.device)
    position[queried] = torch.arange(len(queried), device=labels.device)
    inside, outside = neighbours8(labels, named)
    fresh = position[outside] < 0
    inside, outside = inside[fresh], outside[fresh]
    regions, degree = torch.unique_consecutive(outside, return_counts=True)
    slot = torch.arange(len(inside), device=labels.device)
    slot -= (degree.cumsum(0) - degree).repeat_interleave(degree)
    sources = regions.new_full((len(regions), int(degree.max()) if len(degree) else 0), len(queried))
    sources[torch.arange(len(regions), device=labels.device).repeat_interleave(degree), slot] = position[inside]
    return regions, sources


def compared(
    features: Tensor, labels: Tensor, regions: Tensor, sources: Tensor, listed: Tensor, points: Tensor, normalise: bool
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The similarities of all pixels of ``regions`` to the prototypes of their sources, in chunks of bounded size.

    regions (R,) i64 distinct; sources (R,S) i64 rows of ``listed``, padded at the end with its last row;
    listed (A+1,M) u8 from ``class_lists``; points (A,C) i64.

    Yields pixels (n,L) i64 flat indices, each row from one region; inside (n,L) bool, False for padding of a row;
    source (n,s) i64, like ``sources``; and similarity (n,s,m,L) f32 to the prototype of the class listed[source, :m],
    -inf where that is VOID. Each pixel is inside exactly once, and s and m omit no source or class.
    """
    index, size = pixels_of(labels, regions)
    if len(index) == 0 or listed.shape[1] == 0:
        return
    device = labels.device
    flat = features.flatten(1)
    at = torch.nn.functional.pad(points, (0, VOID + 1 - points.shape[1], 0, 1), value=-1).gather(1, listed.long())
    vectors = columns(flat, at.clamp(min=0))  # (A+1,D,M), from an arbitrary pixel where there is no class
    vectors = (unit(vectors.transpose(0, 1)).transpose(0, 1) if normalise else vectors).transpose(1, 2).contiguous()

    # Regions are cut into pieces of equal length, which keeps padding small even if their sizes differ much. Pieces are
    # sorted by their numbers of sources and classes, largest first, for the same reason.
    piece = min(PIECE, int(size.max()))
    pieces = (size + piece - 1) // piece
    owner = torch.arange(len(regions), device=device).repeat_interleave(pieces)
    number = (sources < len(listed) - 1).sum(1)
    width = (listed != VOID).sum(1)[sources].amax(1)
    order = (number * (VOID + 1) + width)[owner].argsort(descending=True, stable=True)
    begin = (size.cumsum(0) - size)[owner] + piece * (
        torch.arange(len(owner), device=device) - (pieces.cumsum(0) - pieces)[owner]
    )
    owner, begin = owner[order], begin[order]
    end = size.cumsum(0)[owner]
    numbers, widths = number[owner].tolist(), width[owner].tolist()

    done = 0
    while done < len(owner):
        most = numbers[done]
        step = max(CHUNK // (piece * max(len(flat), most * listed.shape[1])), 1)
        part = slice(done, done + step)
        classes = max(widths[part])
        source = sources[owner[part], :most]
        place = begin[part, None] + torch.arange(piece, device=device)
        inside = place < end[part, None]
        pixels = index[place.minimum(end[part, None] - 1)]
        values = columns(flat, pixels)
        similarity = exact_products(vectors[source, :classes].flatten(1, 2), values)
        if normalise:
            # With channels first, this is seven times faster than the norm, and it holds the squares of one chunk only.
            similarity /= values.square().sum(1, keepdim=True).sqrt().clamp(min=SHORTEST)
        similarity = similarity.unflatten(1, (most, classes))
        similarity.masked_fill_((listed[source, :classes] == VOID)[..., None], -torch.inf)
        yield pixels, inside, source, similarity
        done += step


def columns(flat: Tensor, index: Tensor) -> Tensor:
    """(D,P) values, either axis densely stored, at (n,L) i64 indices: (n,D,L), not always contiguous."""
    if flat.stride(0) == 1:
        return flat.T.index_select(0, index.reshape(-1)).view(*index.shape, len(flat)).transpose(1, 2)
    return flat.index_select(1, index.reshape(-1)).view(len(flat), *index.shape).transpose(0, 1)


def exact_products(left: Tensor, right: Tensor) -> Tensor:
    """(n,a,D) f32 times (n,D,b) f32 in full precision, whatever precision training has set: TF32 errs by 1e-3."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(left.device.type, enabled=False):
            return torch.bmm(left, right)
    finally:
        torch.set_float32_matmul_precision(precision)


def smallest_of_largest(values: Tensor, classes: Tensor, dim: int) -> Tensor:
    """The smallest of the classes with the largest value along ``dim``; u8 ``classes`` broadcasts with ``values``."""
    return classes.where(values >= values.amax(dim, keepdim=True) - SIMILARITY_TOLERANCE, VOID).amin(dim)
