"""Built-in synthetic street scenes: small images with exact masks, for trials and tests without a download.

A pinhole camera looks along a street. Sky, house fronts and ground are computed from the camera; trees, poles, cars and
persons are drawn at points on the ground, distant ones first. Classes overlap in colour on purpose (road,
pavement and many houses are grey, grass and trees green, cars and clothes of any colour) and light varies per image, so
that a network needs context; large easy areas are next to small hard ones, and errors concentrate at borders.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from stages.pixels.void import VOID
from stages.runtime.randomness import stream

CLASS_NAMES = ("sky", "building", "road", "pavement", "grass", "tree", "car", "pole", "person")
SKY, BUILDING, ROAD, PAVEMENT, GRASS, TREE, CAR, POLE, PERSON = range(len(CLASS_NAMES))

_FAR = 70.0  # metres; beyond it is a flat backdrop
_BACKDROP, _GROUND, _HOUSES, _OBJECTS = 1, 2, 5, 6  # orders of drawing; the sky is 0, ground takes 2 to 4
_HOUSES_PER_SIDE = 16
_SKIN = np.array([0.75, 0.55, 0.45])
_DARK = np.array([0.06, 0.07, 0.09])


@dataclass(frozen=True)
class _Street:
    """Camera and cross-section: rows and columns in pixels, the rest in metres, the camera standing at x = z = 0."""

    focal: float  # pixels
    eye: float  # height of the camera above the ground
    horizon: float  # row and ...
    centre: float  # ... column of the vanishing point
    kerb: np.ndarray  # (2,) x of the left and right edge of the road
    verge: np.ndarray  # (2,) x of the outer edges of the pavements, where grass begins
    front: np.ndarray  # (2,) x of the house fronts
    ends: np.ndarray  # (2, K) z where each house of a side ends
    heights: np.ndarray  # (2, K) height of each house, 0 for a gap
    haze: np.ndarray  # (3,) colour of the distance
    reach: float  # distance at which haze leaves 1/e of a colour

    def hazy(self, color: np.ndarray, z: float | np.ndarray) -> np.ndarray:
        """``color`` seen from distance ``z``; the two broadcast."""
        return self.haze + (color - self.haze) * np.exp(-z / self.reach)


@dataclass
class _Canvas:
    """The drawing so far, or a window of it: ``image`` (H, W, 3) f32 in 0..1, ``mask`` and ``order`` (H, W) u8."""

    image: np.ndarray
    mask: np.ndarray
    order: np.ndarray

    def fill(self, shape: np.ndarray, color: np.ndarray, label: int, order: int) -> None:
        """Draws ``color``, (3,) or (H, W, 3), where the boolean ``shape`` (H, W) is set."""
        self.image[shape] = color if color.ndim == 1 else color[shape]
        self.mask[shape] = label
        self.order[shape] = order


@dataclass(frozen=True)
class _Window:
    """The part of the canvas around an upright object, with metres to draw in."""

    canvas: _Canvas
    across: np.ndarray  # (1, w) metres to the right of the object's middle
    above: np.ndarray  # (h, 1) metres above its foot
    pixel: float  # metres per pixel


def scene_id(split: str, index: int) -> str:
    """The image id of scene number ``index`` of ``split``."""
    return f"{split}_{index:05d}"


def generate_scene(seed: int, split: str, index: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Scene number ``index`` of ``split``: image (H, W, 3) u8 and mask (H, W) u8 of ``CLASS_NAMES``, 255 on borders.

    Depends only on its arguments, not on scenes generated before.
    """
    rng = stream(seed, "scenes", split, index)
    street = _plan_street(rng, height, width)
    shape = height, width
    canvas = _Canvas(np.zeros((*shape, 3), np.float32), np.full(shape, SKY, np.uint8), np.zeros(shape, np.uint8))
    _draw_sky(canvas, street, rng)
    _draw_backdrop(canvas, street, rng)
    _draw_ground(canvas, street, rng)
    _draw_houses(canvas, street, rng)
    objects = sorted(_place_objects(street, rng), key=lambda item: -item[0])
    for order, (z, x, draw) in enumerate(objects, start=_OBJECTS):
        draw(canvas, street, rng, x, z, order)
    return _photograph(canvas.image, rng), _with_borders(canvas.mask, canvas.order)


def _plan_street(rng: np.random.Generator, height: int, width: int) -> _Street:
    sides = np.array([-1.0, 1.0])
    kerb = rng.uniform(2.2, 4.5, 2)
    verge = kerb + rng.uniform(1.3, 3.0, 2)
    front = verge + rng.uniform(1, 7, 2) * (rng.random(2) < 0.65)
    heights = rng.uniform(4, 14, (2, _HOUSES_PER_SIDE)) * (rng.random((2, _HOUSES_PER_SIDE)) < 0.75)
    light = rng.uniform(0.65, 0.95)
    return _Street(
        focal=width * rng.uniform(0.55, 0.8),
        eye=rng.uniform(1.6, 2.6),
        horizon=height * rng.uniform(0.36, 0.52),
        centre=width * rng.uniform(0.3, 0.7),
        kerb=sides * kerb,
        verge=sides * verge,
        front=sides * front,
        ends=np.cumsum(rng.uniform(5, 14, (2, _HOUSES_PER_SIDE)), axis=1),
        heights=heights,
        haze=light * rng.uniform(0.9, 1.0, 3),
        reach=rng.uniform(60, 250),
    )


def _draw_sky(canvas: _Canvas, street: _Street, rng: np.random.Generator) -> None:
    height, width = canvas.mask.shape
    zenith = street.haze * (np.array([0.5, 0.7, 1.05]) if rng.random() < 0.6 else rng.uniform(0.75, 1.0))
    up = np.clip(1 - np.arange(height) / street.horizon, 0, 1)[:, None, None]
    clouds = _noise(rng, height, width, width / 5) * _noise(rng, height, width, width / 14)
    cover = np.clip(clouds[..., None] * rng.uniform(0, 2.5), 0, 1)
    canvas.image[:] = (street.haze * (1 - up) + zenith * up) * (1 - cover) + rng.uniform(0.8, 1.0) * cover


def _draw_backdrop(canvas: _Canvas, street: _Street, rng: np.random.Generator) -> None:
    """Houses and trees at the end of the street, as a row of flat blocks and lumps."""
    height, width = canvas.mask.shape
    blocks = rng.integers(width // 16, width // 6, 16).cumsum().searchsorted(np.arange(width), side="right")
    tops = street.horizon - height * rng.uniform(0.03, 0.14, 17)[blocks]
    wood = (rng.random(17) < 0.5)[blocks]
    lumps = tops + height * 0.08 * (_noise(rng, 1, width, width / 20)[0] - 0.5)
    rows = np.arange(height)[:, None]
    colors = np.where(wood[:, None], _green(rng), _plaster(rng, 17)[blocks])
    texture = 0.8 + 0.4 * _noise(rng, height, width, 2)[..., None]
    color = street.hazy(colors, _FAR) * texture
    above_ground = rows < street.horizon + street.eye * street.focal / _FAR
    canvas.fill(above_ground & (rows >= tops) & ~wood, color, BUILDING, _BACKDROP)
    canvas.fill(above_ground & (rows >= lumps) & wood, color, TREE, _BACKDROP)


def _draw_ground(canvas: _Canvas, street: _Street, rng: np.random.Generator) -> None:
    height, width = canvas.mask.shape
    down = np.arange(height) + 0.5 - street.horizon
    z = street.focal * street.eye / np.maximum(down, 1e-3)  # (H,)
    x = (np.arange(width) + 0.5 - street.centre) * (z / street.focal)[:, None]  # (H, W)
    pixel = (z / street.focal)[:, None]
    ground = (z < _FAR)[:, None]
    paved = ground & (x > street.verge[0]) & (x < street.verge[1])
    road = ground & (x > street.kerb[0]) & (x < street.kerb[1])
    grain = 0.8 + 0.25 * _noise(rng, height, width, 1.5) + 0.15 * _noise(rng, height, width, width / 12)

    canvas.fill(ground & ~paved, _green(rng) * (grain[..., None] * 2 - 1), GRASS, _GROUND)

    slabs = (_stripes(z[:, None], 1.0, 0.12) | _stripes(x, 1.0, 0.12)) & (pixel < 0.08)
    stone = rng.uniform(0.32, 0.68) * rng.uniform(0.92, 1.06, 3)
    color = stone * (grain - 0.12 * slabs)[..., None]
    kerb = np.minimum(abs(x - street.kerb[0]), abs(x - street.kerb[1])) < 0.15
    canvas.fill(paved, np.where(kerb[..., None], color * 1.15, color), PAVEMENT, _GROUND + 1)

    asphalt = rng.uniform(0.2, 0.5) * rng.uniform(0.95, 1.05, 3)
    middle = street.kerb.mean()
    lines = (abs(x - middle) < 0.08 + pixel / 4) & _stripes(z[:, None], rng.uniform(4, 9), 0.5)
    if rng.random() < 0.4:
        lines |= np.minimum(abs(x - street.kerb[0] - 0.4), abs(x - street.kerb[1] + 0.4)) < 0.06 + pixel / 4
    if rng.random() < 0.25:
        crossing = rng.uniform(5, 16)
        lines |= (abs(z - crossing) < 1.5)[:, None] & _stripes(x, 1.0, 0.5)
    paint = rng.uniform(0.5, 0.85)
    patch = 1 - 0.2 * (_noise(rng, height, width, width / 8) > 0.68)
    color = np.where(lines[..., None], paint, asphalt * patch[..., None]) * grain[..., None]
    canvas.fill(road, color, ROAD, _GROUND + 2)

    if rng.random() < 0.6:  # the sun is on one side: the houses there cast shadows across the street
        side = int(rng.integers(2))
        tall = street.heights[side][np.minimum(street.ends[side].searchsorted(z), _HOUSES_PER_SIDE - 1)]
        edge = abs(street.front[side]) - tall[:, None] * rng.uniform(0.2, 1.0)
        shadow = ground & (x * np.sign(street.front[side]) > edge)
        canvas.image[shadow] *= rng.uniform(0.45, 0.7)
    canvas.image[ground[:, 0]] = street.hazy(canvas.image[ground[:, 0]], z[ground[:, 0], None, None])


@dataclass(frozen=True)
class _Fronts:
    """How the houses look, one row per house of the left side, then of the right."""

    color: np.ndarray  # (2K, 3)
    bay: np.ndarray  # (2K,) metres from window to window
    storey: np.ndarray  # (2K,) metres from floor to floor
    roof: np.ndarray  # (2K,) height of the roof
    pane: np.ndarray  # (3,) colour of window panes


def _draw_houses(canvas: _Canvas, street: _Street, rng: np.random.Generator) -> None:
    """The houses of both sides: a column of the image meets one front and, above it, the flank of the next house."""
    width = canvas.mask.shape[1]
    fronts = _Fronts(
        color=_plaster(rng, 2 * _HOUSES_PER_SIDE) * rng.uniform(0.8, 1.1, (2 * _HOUSES_PER_SIDE, 1)),
        bay=rng.uniform(1.8, 3.5, 2 * _HOUSES_PER_SIDE),
        storey=rng.uniform(2.6, 3.4, 2 * _HOUSES_PER_SIDE),
        roof=rng.uniform(0, 2.5, 2 * _HOUSES_PER_SIDE),
        pane=rng.uniform(0.08, 0.6) * rng.uniform(0.9, 1.2, 3),
    )
    right = np.arange(width) + 0.5 - street.centre
    right[abs(right) < 1e-3] = 1e-3
    side = (right > 0).astype(int)
    z = street.focal * street.front[side] / right  # (W,)
    number = np.where(side, street.ends[1].searchsorted(z), street.ends[0].searchsorted(z))
    number = np.minimum(number, _HOUSES_PER_SIDE - 2)
    flank = street.ends[side, number]
    _draw_walls(canvas, street, rng, fronts, flank, side * _HOUSES_PER_SIDE + number + 1, right * flank / street.focal)
    fronts = replace(fronts, color=fronts.color * rng.uniform(0.7, 1.0))  # no sun along the street
    _draw_walls(canvas, street, rng, fronts, z, side * _HOUSES_PER_SIDE + number, z)


def _draw_walls(
    canvas: _Canvas,
    street: _Street,
    rng: np.random.Generator,
    fronts: _Fronts,
    z: np.ndarray,
    house: np.ndarray,
    along: np.ndarray,
) -> None:
    """In each column the wall of ``house`` at distance ``z``, with windows at metres ``along`` the wall; all (W,)."""
    height, width = canvas.mask.shape
    tall = street.heights.ravel()[house] * (z < _FAR)
    above = street.eye - (np.arange(height) + 0.5 - street.horizon)[:, None] * (z / street.focal)  # (H, W) metres
    window = _stripes(along, fronts.bay[house], 0.5) & _stripes(above + 0.6, fronts.storey[house], 0.5)
    # Where a pixel spans more than a window, windows blend into the wall.
    sharp = np.clip(1.5 - abs(np.gradient(along)) / fronts.bay[house], 0, 1)[:, None]
    wall = fronts.color[house] * (0.88 + 0.24 * _noise(rng, height, width, 2))[..., None]
    color = np.where((window & (above < tall - 0.8))[..., None], wall + (fronts.pane - wall) * sharp, wall)
    color = np.where((above > tall - fronts.roof[house])[..., None], wall * np.array([0.8, 0.62, 0.58]), color)
    canvas.fill((above >= 0) & (above < tall), street.hazy(color, z[:, None]), BUILDING, _HOUSES)


_Draw = Callable[[_Canvas, _Street, np.random.Generator, float, float, int], None]


def _place_objects(street: _Street, rng: np.random.Generator) -> list[tuple[float, float, _Draw]]:
    """What stands in the street, as (z, x, how to draw it)."""
    objects: list[tuple[float, float, _Draw]] = []
    for side in range(2):
        inward = -np.sign(street.kerb[side])
        if rng.random() < 0.75:
            for z in rng.uniform(7, 14) + rng.uniform(6, 14) * np.arange(rng.integers(1, 6)):
                x = rng.uniform(*sorted((street.verge[side] - 0.3 * inward, street.front[side] + 0.3 * inward)))
                objects.append((z + rng.uniform(-2, 2), x, _draw_tree))
        for z in rng.uniform(5, 20) + rng.uniform(12, 25) * np.arange(rng.integers(3)):
            objects.append((z, street.kerb[side] - 0.5 * inward, _draw_pole))
        if rng.random() < 0.65:
            for z in rng.uniform(6, 13) + rng.uniform(5.5, 8) * np.arange(rng.integers(1, 5)):
                objects.append((z, street.kerb[side] + 1.1 * inward, _draw_car))
    if rng.random() < 0.5:
        objects.append((rng.uniform(9, 30), street.kerb.mean() + rng.uniform(1.0, 1.6), _draw_car))
    if rng.random() < 0.35:
        for _ in range(rng.integers(1, 3)):
            side = int(rng.integers(2))
            x = street.kerb[side] + (street.verge[side] - street.kerb[side]) * rng.uniform(-0.3, 0.9)
            objects.append((rng.uniform(5, 14), x, _draw_person))
    return objects


def _window(canvas: _Canvas, street: _Street, x: float, z: float, half_width: float, top: float) -> _Window:
    """The window around an object at (x, z) with this half width and height in metres; empty if out of view."""
    height, width = canvas.mask.shape
    pixel = z / street.focal
    column, foot = street.centre + x / pixel, street.horizon + street.eye / pixel
    rows = slice(max(0, math.floor(foot - top / pixel)), max(0, math.ceil(foot)))
    columns = slice(max(0, math.floor(column - half_width / pixel)), max(0, math.ceil(column + half_width / pixel)))
    view = _Canvas(canvas.image[rows, columns], canvas.mask[rows, columns], canvas.order[rows, columns])
    across = (np.arange(width)[columns] + 0.5 - column) * pixel
    above = (foot - np.arange(height)[rows] - 0.5) * pixel
    return _Window(view, across[None, :], above[:, None], pixel)


def _draw_tree(canvas: _Canvas, street: _Street, rng: np.random.Generator, x: float, z: float, order: int) -> None:
    bush = rng.random() < 0.3
    middle, radius = (0.4, 0.9) if bush else (rng.uniform(3.2, 5), rng.uniform(1.5, 2.6))
    stretch = rng.uniform(0.8, 1.2)
    window = _window(canvas, street, x, z, 1.4 * radius, middle + 1.6 * radius)
    height, width = window.canvas.mask.shape
    trunk = (abs(window.across) < max(0.15, window.pixel * 0.6)) & (window.above < middle)
    bark = np.array([0.3, 0.25, 0.2]) * rng.uniform(0.6, 1.3)
    window.canvas.fill(trunk, street.hazy(bark, z), TREE, order)
    ragged = _noise(rng, height, width, 0.7 / window.pixel + 1) - 0.5 + 0.3 * (_noise(rng, height, width, 1) - 0.5)
    distance = np.hypot(window.across / radius, (window.above - middle) / (radius * stretch))
    light = 0.55 + 0.5 * _noise(rng, height, width, 1.5) + 0.25 * _noise(rng, height, width, 0.5 / window.pixel + 1)
    light = light + 0.12 * (window.above - middle) / radius
    window.canvas.fill(distance + 0.6 * ragged < 1, street.hazy(_green(rng) * light[..., None], z), TREE, order)


def _draw_pole(canvas: _Canvas, street: _Street, rng: np.random.Generator, x: float, z: float, order: int) -> None:
    tall = rng.uniform(4, 8)
    window = _window(canvas, street, x, z, 2.0, tall + 0.3)
    across, above = window.across, window.above
    half = max(rng.uniform(0.06, 0.14), window.pixel)
    color = street.hazy(rng.choice([0.12, 0.2, 0.65]) * rng.uniform(0.9, 1.1, 3), z)
    shape = (abs(across) < half) & (above < tall)
    arm = rng.uniform(0, 1.6) * -np.sign(x)  # reaches over the road
    shape |= (across * np.sign(arm) > 0) & (abs(across) < abs(arm)) & (abs(above - tall) < max(0.1, window.pixel * 0.6))
    window.canvas.fill(shape, color, POLE, order)


def _draw_car(canvas: _Canvas, street: _Street, rng: np.random.Generator, x: float, z: float, order: int) -> None:
    """A box of slices from front to rear, the rear with its lamps nearest."""
    half, tall, sill = rng.uniform(0.8, 0.95), rng.uniform(1.35, 1.8), rng.uniform(0.8, 0.95)
    paint = _dye(rng)
    glass = rng.uniform(0.05, 0.3) * np.ones(3)
    _shade_ground(canvas, street, (x - half - 0.15, x + half + 0.15), (z - 0.2, z + 4.2))
    for back in np.linspace(3.9, 0, 9):
        window = _window(canvas, street, x, z + back, half, tall)
        across, above = abs(window.across), window.above
        shade = 1.0 if back == 0 else 0.7
        wheel = (above < 0.4) & (across > half - 0.25) & ((abs(back - 0.6) < 0.4) | (abs(back - 3.2) < 0.4))
        body = (above > 0.22) & (above < sill) & (across < half)
        window.canvas.fill(body, street.hazy(paint * shade, z), CAR, order)
        window.canvas.fill(wheel, _DARK, CAR, order)
        if back < 2.9:
            narrow = half - 0.1 - 0.3 * (above - sill)
            cabin = (above >= sill) & (above < tall) & (across < narrow)
            pane = cabin & (above < tall - 0.12) & (across < narrow - (0.1 if back == 0 else -1))
            window.canvas.fill(cabin, street.hazy(paint * shade, z), CAR, order)
            window.canvas.fill(pane, street.hazy(glass, z), CAR, order)
    lamps = (abs(above - sill + 0.15) < 0.1) & (across > half - 0.28) & (across < half)
    plate = (abs(above - 0.5) < 0.08) & (across < 0.27)
    bumper = (above > 0.22) & (above < 0.36) & (across < half)
    window.canvas.fill(bumper, street.hazy(paint * 0.5, z), CAR, order)
    window.canvas.fill(lamps, street.hazy(np.array([0.7, 0.08, 0.08]), z), CAR, order)
    window.canvas.fill(plate, street.hazy(np.array([0.85, 0.85, 0.75]), z), CAR, order)


def _draw_person(canvas: _Canvas, street: _Street, rng: np.random.Generator, x: float, z: float, order: int) -> None:
    _shade_ground(canvas, street, (x - 0.35, x + 0.35), (z - 0.3, z + 0.3))
    window = _window(canvas, street, x, z, 0.5, 1.8)
    across, above = abs(window.across), window.above
    thin = window.pixel * 0.5
    legs = (above < 0.9) & (abs(across - rng.uniform(0.06, 0.16)) < max(0.08, thin))
    torso = (above > 0.8) & (above < 1.45) & (across < max(0.24, thin))
    head = np.hypot(across, above - 1.6) < max(0.14, thin)
    window.canvas.fill(legs, street.hazy(_dye(rng) * 0.7, z), PERSON, order)
    window.canvas.fill(torso, street.hazy(_dye(rng), z), PERSON, order)
    window.canvas.fill(head, street.hazy(_SKIN * rng.uniform(0.4, 1.1), z), PERSON, order)


def _shade_ground(canvas: _Canvas, street: _Street, x: tuple[float, float], z: tuple[float, float]) -> None:
    """Darkens the ground below an object; the mask does not change."""
    height, width = canvas.mask.shape
    down = np.maximum(np.arange(height) + 0.5 - street.horizon, 1e-3)[:, None]
    depth = street.focal * street.eye / down
    right = (np.arange(width) + 0.5 - street.centre) * (street.eye / down)
    shadow = (depth > z[0]) & (depth < z[1]) & (right > x[0]) & (right < x[1])
    canvas.image[shadow & (canvas.order < _HOUSES)] *= 0.35


def _green(rng: np.random.Generator) -> np.ndarray:
    """A colour of leaves or grass, from yellowish to bluish green."""
    return rng.uniform(0.28, 0.55) * np.array([rng.uniform(0.6, 1.0), 1.0, rng.uniform(0.35, 0.6)])


def _plaster(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours of house fronts (count, 3): grey, brick, beige and white."""
    kinds = np.array(
        [[0.45, 0.45, 0.46], [0.52, 0.33, 0.27], [0.68, 0.6, 0.48], [0.75, 0.74, 0.72], [0.35, 0.34, 0.33]]
    )
    return (
        kinds[rng.integers(len(kinds), size=count)]
        * rng.uniform(0.8, 1.15, (count, 1))
        * rng.uniform(0.93, 1.07, (count, 3))
    )


def _dye(rng: np.random.Generator) -> np.ndarray:
    """A colour of cars and clothes: any brightness, mostly dull."""
    return rng.uniform(0.05, 0.9) * (1 + rng.uniform(0, 1) ** 2 * rng.uniform(-0.9, 0.3, 3))


def _stripes(position: np.ndarray, period: float | np.ndarray, share: float) -> np.ndarray:
    """True on the first ``share`` of every ``period``."""
    return position % period < share * period


def _noise(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise (H, W) in 0..1: random values ``cell`` pixels (at least 1) apart, linear in between."""
    cell = max(cell, 1.0)
    nodes = rng.random((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), np.float32)
    return _stretch(_stretch(nodes, height, cell).T, width, cell).T


def _stretch(nodes: np.ndarray, size: int, cell: float) -> np.ndarray:
    """``size`` rows interpolated linearly between the rows of ``nodes``, which are ``cell`` apart."""
    place = np.arange(size, dtype=np.float32) / np.float32(cell)
    before = place.astype(int)
    after = np.minimum(before + 1, len(nodes) - 1)
    return nodes[before] + (nodes[after] - nodes[before]) * (place - before).astype(np.float32)[:, None]


def _photograph(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene as photographed: exposure, colour cast, uneven light, blur and noise; (H, W, 3) u8."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    image = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    light = 0.85 + 0.3 * _noise(rng, height, width, max(height, width) / 2)
    warm = rng.uniform(-0.1, 0.1)
    cast = np.array([1 + warm, 1, 1 - warm]) * rng.uniform(0.95, 1.05, 3)
    image = np.clip(image * light[..., None] * rng.uniform(0.75, 1.2) * cast, 0, 1) ** rng.uniform(0.75, 1.25)
    image = image + rng.uniform(0.008, 0.03) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _with_borders(mask: np.ndarray, order: np.ndarray) -> np.ndarray:
    """``mask`` with 255 at pixels next to a class in front of their own, so that thin objects keep their width."""
    void = np.zeros(mask.shape, bool)
    for axis in range(2):
        first, second = (np.moveaxis(array, axis, 0) for array in (mask, order))
        differ = first[1:] != first[:-1]
        border = np.moveaxis(void, axis, 0)  # a view: writes reach ``void``
        border[:-1] |= differ & (second[1:] > second[:-1])
        border[1:] |= differ & (second[1:] < second[:-1])
    return np.where(void, np.uint8(VOID), mask)
