"""What stands where in a scene: every draw from (seed, split, index), before any pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .shapes import COLOURS, SHAPES, TEXTURES, UNNAMED_SHAPES

SIDE = 4096  # coordinates are whole numbers of 1/4096 of the image's side
TURN = 64  # steps of a full rotation
SPLITS = ('train', 'val', 'test')
PLACEMENT_ATTEMPTS = 8
NUM_DRAWS = 320  # more than any scene takes

Range = tuple[int, int]
PATTERN = (-3, 3), (1, 3), (9, 11)  # ranges of the stripes' direction and period


@dataclass(frozen=True)
class Difficulty:
    """The ranges that a scene's draws come from, ends included."""

    others: Range  # named objects beside the main one
    clutter: Range  # unnamed shapes below the objects
    occluders: Range  # small unnamed shapes above the objects
    main_radius: Range  # circumradius of the main object, in 1/1000 of the image's side
    other_radius: Range  # circumradius of the other named objects, same unit
    turn: int  # largest rotation of any shape to either side, in 1/64 of a full turn; 32 is every angle
    background_amplitude: Range  # contrast of the background's pattern, in grey levels
    noise: int  # largest deviation of a pixel by noise, in grey levels (triangular distribution)
    light: int  # largest relative change of brightness from the centre to an edge, in percent
    colour_jitter: int  # largest deviation of an object's colour from its name's, in grey levels


DIFFICULTIES = {
    'easy': Difficulty((0, 1), (0, 1), (0, 0), (300, 400), (150, 220), 4, (0, 15), 10, 10, 15),
    # The setting of every figure in docs and benchmarks.
    'standard': Difficulty((0, 2), (1, 4), (0, 1), (260, 370), (140, 210), 8, (5, 30), 25, 20, 30),
    'hard': Difficulty((2, 4), (4, 9), (1, 3), (150, 240), (100, 160), 32, (15, 60), 50, 40, 45),
}


@dataclass(frozen=True)
class SceneObject:
    """One shape of a scene."""

    shape: str  # a name of SHAPES or UNNAMED_SHAPES
    colour: str  # the name of its colour; '' for clutter
    rgb: tuple[int, ...]  # the colour itself, 0-255
    texture: str  # a name of TEXTURES
    x: int  # centre, in 1/4096 of the side
    y: int
    radius: int  # circumradius, same unit
    angle: int  # rotation in 1/64 of a turn
    names_colour: bool = True  # whether a caption names its colour

    @property
    def label(self) -> int:
        """Its value in a label map; 0 for clutter."""
        return SHAPES.index(self.shape) + 1 if self.shape in SHAPES else 0


@dataclass(frozen=True)
class Scene:
    """A scene's description."""

    objects: tuple[SceneObject, ...]  # from the lowest to the topmost
    background: np.ndarray  # colours of a coarse grid, uint8 (n, n, 3)
    pattern: tuple[int, ...]  # direction (x, y in steps), period shift, amplitude of the background's stripes
    light: tuple[int, int]  # change of brightness to the right and downwards, in 1/256 for half the side
    gain: tuple[int, ...]  # brightness of the channels, in 1/256
    noise: int  # largest noise in grey levels
    noise_seed: int


class _Draws:
    """Whole numbers from NumPy's frozen Mersenne Twister, whose stream no version of NumPy changes."""

    def __init__(self, *entropy: int) -> None:
        words = [word for value in entropy for word in (value & 0xFFFFFFFF, value >> 32)]
        self.state = np.random.RandomState(np.array(words, dtype=np.uint32))
        self._values = iter(self.state.randint(0, 1 << 31, NUM_DRAWS).tolist())

    def between(self, low: int, high: int) -> int:
        """Uniform in low..high, ends included."""
        return low + next(self._values) % (high - low + 1)

    def of(self, names: Sequence[str]) -> str:
        return names[next(self._values) % len(names)]


def compose_scene(seed: int, split: str, index: int, difficulty: Difficulty) -> Scene:
    """Compose the scene of an index: the splits are separate streams, which share no scene."""
    if split not in SPLITS:
        raise ValueError(f'split={split!r} is none of {", ".join(SPLITS)}')
    for name, value in (('seed', seed), ('index', index)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f'{name}={value} is not within 0 and 2**64 - 1')
    draws = _Draws(seed, SPLITS.index(split), index)
    spread = difficulty.light * 256 // 100
    # Arguments are drawn in the order in which they are written: changing it changes every scene.
    return Scene(
        objects=(
            *_clutter(draws, difficulty.clutter, (60, 220), difficulty.turn),
            *_named_objects(draws, difficulty),
            *_clutter(draws, difficulty.occluders, (40, 80), difficulty.turn),
        ),
        background=draws.state.randint(30, 226, (5, 5, 3)).astype(np.uint8),
        pattern=tuple(draws.between(*ends) for ends in (*PATTERN, difficulty.background_amplitude)),
        light=(draws.between(-spread, spread), draws.between(-spread, spread)),
        gain=tuple(draws.between(208, 304) for _ in range(3)),
        noise=draws.between(0, difficulty.noise),
        noise_seed=draws.between(0, (1 << 31) - 1),
    )


def _named_objects(draws: _Draws, difficulty: Difficulty) -> list[SceneObject]:
    placed: list[SceneObject] = []
    jitter = difficulty.colour_jitter
    for number in range(1 + draws.between(*difficulty.others)):
        main = number == 0
        radius = draws.between(*(difficulty.main_radius if main else difficulty.other_radius)) * SIDE // 1000
        margin = SIDE // 4 if main else SIDE // 10
        for _ in range(PLACEMENT_ATTEMPTS):
            x, y = draws.between(margin, SIDE - margin), draws.between(margin, SIDE - margin)
            # Overlaps happen, but never so much that an object could disappear.
            if all((x - o.x) ** 2 + (y - o.y) ** 2 >= (3 * (radius + o.radius) // 4) ** 2 for o in placed):
                break
        else:
            continue  # no room; the main object, placed first, always has it
        colour = draws.of(tuple(COLOURS))
        placed.append(
            SceneObject(
                shape=draws.of(SHAPES),
                colour=colour,
                rgb=tuple(min(255, max(0, c + draws.between(-jitter, jitter))) for c in COLOURS[colour]),
                texture=draws.of(TEXTURES),
                x=x,
                y=y,
                radius=radius,
                angle=draws.between(-difficulty.turn, difficulty.turn) % TURN,
                names_colour=draws.between(1, 3) > 1,
            )
        )
    first = draws.between(0, len(placed) - 1)  # which of them lies lowest
    return placed[first:] + placed[:first]


def _clutter(draws: _Draws, count: Range, radius: Range, turn: int) -> list[SceneObject]:
    return [
        SceneObject(
            shape=draws.of(UNNAMED_SHAPES),
            colour='',
            rgb=tuple(draws.between(20, 235) for _ in range(3)),
            texture=draws.of(TEXTURES),
            x=draws.between(0, SIDE),
            y=draws.between(0, SIDE),
            radius=draws.between(*radius) * SIDE // 1000,
            angle=draws.between(-turn, turn) % TURN,
        )
        for _ in range(draws.between(*count))
    ]
