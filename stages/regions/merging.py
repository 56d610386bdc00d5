"""Merges neighbouring regions with similar predictions (adaptive_superpixel.md 2.5)."""

import numpy as np
from scipy.special import rel_entr

EDGES_AT_ONCE = 4096  # edges whose distance is computed at once: the temporaries stay in the cache


def normalised(shares: np.ndarray) -> np.ndarray:
    """(...,C) shares, non-negative with a positive sum, scaled to sum 1.

    float64, C-contiguous, so that sums do not depend on the caller's layout.
    """
    shares = np.ascontiguousarray(shares, dtype=np.float64)
    return shares / shares.sum(-1, keepdims=True)


def jensen_shannon_distance(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon distance of `normalised` (...,C) shares, natural log: (...,) f64 in [0, sqrt(ln 2)].

    The square root of the divergence, the same for (q, p). Rounding cannot make the divergence negative, so
    near-identical inputs give a small number and never NaN.
    """
    # KL(p || m) = sum of 2p ln(2p / 2m) / 2. Doubling is exact; halving p + q could underflow to 0 under a tiny p.
    double = p + q
    divergence = (rel_entr(p + p, double).sum(-1) + rel_entr(q + q, double).sum(-1)) / 4
    return np.sqrt(np.maximum(divergence, 0.0))


def visiting_order(uncertainty: np.ndarray, order: str, generator: np.random.Generator | None = None) -> np.ndarray:
    """Position (K,) i64 of each region among the roots, 0 = visited first, from its uncertainty (K,).

    ``uncertainty``: highest first; ``reverse``: lowest first; equal ones by ascending id. ``random``: a permutation
    drawn from ``generator``. ValueError for another name, or for ``random`` without a generator.
    """
    if order == "random" and generator is not None:
        return generator.permutation(len(uncertainty)).astype(np.int64)
    if order not in ("uncertainty", "reverse"):
        raise ValueError(f"no visiting order {order!r} (random needs a generator)")
    visited = np.argsort(uncertainty if order == "reverse" else -uncertainty, kind="stable")
    rank = np.empty(len(visited), dtype=np.int64)
    rank[visited] = np.arange(len(visited))
    return rank


def merge(
    probabilities: np.ndarray,
    offsets: np.ndarray,
    neighbours: np.ndarray,
    epsilon: float,
    rank: np.ndarray,
    sizes: np.ndarray | None = None,
    max_pixels: int | None = None,
    max_fraction: float | None = None,
) -> np.ndarray:
    """The root (K,) i32 of each region's merged region, from mean class shares (K,C) and the graph (see graph.py).

    Roots are visited by ascending ``rank`` (K,), a permutation. A region r that is not taken yet becomes a root and
    takes the connected component, containing r, of {v not taken yet: distance(P_r, P_v) < epsilon} and r itself;
    a taken region stays taken. Members are compared with the root alone, so small steps do not chain.

    ``max_pixels``, with the ``sizes`` (K,) of the regions: a component grows in rings around its root, each ring in
    ascending id; the first member with which the merged region would exceed the cap ends the growth. A root above the
    cap stays alone. ``max_fraction``: once (roots visited + regions taken) / K has reached it, growth ends.
    ValueError for ``max_pixels`` without sizes.
    """
    if max_pixels is not None and sizes is None:
        raise ValueError("max_pixels needs the sizes of the regions")
    count = len(rank)
    shares = normalised(probabilities)
    source, target = close_pairs(shares, offsets, neighbours, epsilon, rank)
    growers = np.unique(source)
    growers = growers[np.argsort(rank[growers])].tolist()

    # The rest is sequential by definition: what a root takes depends on all earlier ones. But it visits only regions
    # that have something to take, looks along each edge of a taken region once (each region is taken once) and
    # computes the distances of a whole ring at a time. Lists and sets, because most rings hold a handful of regions.
    first, close = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=count))]).tolist(), target.tolist()
    begin, links, place = offsets.tolist(), neighbours.tolist(), rank.tolist()
    pixels, cap = ([0] * count, 0) if max_pixels is None or sizes is None else (sizes.tolist(), max_pixels)
    roots = list(range(count))
    taken = bytearray(count)  # 1 at the places of the visiting order whose region is taken
    for root in growers:
        if roots[root] != root:
            continue
        turn = place[root]
        # All places before this turn are settled, as a root or taken; of the later ones, those that are taken.
        if max_fraction is not None and (turn + taken.count(1, turn)) / count >= max_fraction:
            break
        room = cap - pixels[root]
        known = set(links[begin[root] : begin[root + 1]])  # compared with this root already, near or not
        ring = [v for v in close[first[root] : first[root + 1]] if roots[v] == v]
        while ring:
            for v in ring:
                room -= pixels[v]
                if room < 0:
                    break
                roots[v] = root
                taken[place[v]] = 1
            if room < 0:
                break
            # Later places only: a region visited earlier is settled, even one that stayed alone.
            around = {v for u in ring for v in links[begin[u] : begin[u + 1]] if roots[v] == v and place[v] > turn}
            compared = sorted(around - known)
            known.update(compared)
            near = jensen_shannon_distance(shares[root], shares[compared]) < epsilon if compared else ()
            ring = [v for v, chosen in zip(compared, near, strict=True) if chosen]
    return np.array(roots, dtype=np.int32)


def close_pairs(
    shares: np.ndarray, offsets: np.ndarray, neighbours: np.ndarray, epsilon: float, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (r, v) closer than ``epsilon`` of which r is visited before v, ascending: two (P,) arrays.

    Only such an r can take v directly, so each undirected edge is measured once.
    """
    source = np.repeat(np.arange(len(rank)), np.diff(offsets))
    later = np.flatnonzero(rank[neighbours] > rank[source])
    source, target = source[later], neighbours[later]
    near = np.zeros(len(source), dtype=bool)
    for start in range(0, len(source), EDGES_AT_ONCE):
        part = slice(start, start + EDGES_AT_ONCE)
        near[part] = jensen_shannon_distance(shares[source[part]], shares[target[part]]) < epsilon
    return source[near], target[near]
