"""What stands where in a scene: every draw from (seed, split, index), before any pixel."""

from dataclasses import dataclass

import numpy as np

from .difficulty import Difficulty
from .vocabulary import COLOURS, SHAPES, TEXTURES, UNNAMED_SHAPES

SIDE = 4096  # coordinates are whole numbers of 1/4096 of the image's side
TURN = 64  # steps of a full rotation
SPLITS = ('train', 'val', 'test')
PLACEMENT_ATTEMPTS = 8

_NUM_DRAWS = 320  # more than any scene takes


@dataclass(frozen=True)
class SceneObject:
    """One shape of a scene.

    Args:
        shape: A name of ``SHAPES`` or ``UNNAMED_SHAPES``.
        colour: The name of its colour; '' for clutter.
        rgb: The colour itself, 0–255.
        texture: A name of ``TEXTURES``.
        x: Centre, in 1/4096 of the side.
        y: See ``x``.
        radius: Circumradius, same unit.
        angle: Rotation in 1/64 of a turn.
        says_colour: Whether a caption names its colour.
    """

    shape: str
    colour: str
    rgb: tuple[int, int, int]
    texture: str
    x: int
    y: int
    radius: int
    angle: int
    says_colour: bool = True

    @property
    def label(self) -> int:
        """Its value in a label map; 0 for clutter."""
        return SHAPES.index(self.shape) + 1 if self.shape in SHAPES else 0


@dataclass(frozen=True)
class Scene:
    """A scene's description.

    Args:
        objects: From the lowest to the topmost.
        background: Colours of a coarse grid, uint8 ``(n, n, 3)``.
        pattern: Direction (x, y in steps), period shift and amplitude of the background's stripes.
        light: Change of brightness to the right and downwards, in 1/256 for half the side.
        gain: Brightness of the channels, in 1/256.
        noise: Largest noise in grey levels.
        noise_seed: Seed of the noise.
    """

    objects: tuple[SceneObject, ...]
    background: np.ndarray
    pattern: tuple[int, int, int, int]
    light: tuple[int, int]
    gain: tuple[int, int, int]
    noise: int
    noise_seed: int


class _Draws:
    """Whole numbers from NumPy's frozen Mersenne Twister, whose stream no version of NumPy changes."""

    def __init__(self, *entropy: int) -> None:
        words = [word for value in entropy for word in (value & 0xFFFFFFFF, value >> 32)]
        self.state = np.random.RandomState(np.array(words, dtype=np.uint32))
        self._values = iter(self.state.randint(0, 1 << 31, _NUM_DRAWS).tolist())

    def between(self, low: int, high: int) -> int:
        """Uniform in low..high, ends included."""
        return low + next(self._values) % (high - low + 1)

    def of(self, values: tuple) -> object:
        return values[next(self._values) % len(values)]


def compose_scene(seed: int, split: str, index: int, difficulty: Difficulty) -> Scene:
    """The scene of an index.

    Args:
        seed: Seed of the collection, 0 to 2**64 - 1.
        split: ``'train'``, ``'val'`` or ``'test'``: streams of their own, so that no index of one is an
            index of another.
        index: Number in the split, 0 to 2**64 - 1.
        difficulty: Ranges to draw from.

    Raises:
        ValueError: If an argument is outside of what is listed above.
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r} is none of {", ".join(SPLITS)}')
    for name, value in (('seed', seed), ('index', index)):
        if not 0 <= value < 1 << 64:
            raise ValueError(f'{name}={value} is not within 0 and 2**64 - 1')
    draws = _Draws(seed, SPLITS.index(split), index)
    objects = [
        *_clutter(draws, difficulty.clutter, 60, 220, difficulty.turn),
        *_named_objects(draws, difficulty),
        *_clutter(draws, difficulty.occluders, 40, 80, difficulty.turn),
    ]
    spread = difficulty.light * 256 // 100
    return Scene(
        objects=tuple(objects),
        background=draws.state.randint(30, 226, (5, 5, 3)).astype(np.uint8),
        pattern=(
            draws.between(-3, 3),
            draws.between(1, 3),
            draws.between(9, 11),
            draws.between(*difficulty.background_amplitude),
        ),
        light=(draws.between(-spread, spread), draws.between(-spread, spread)),
        gain=tuple(draws.between(208, 304) for _ in range(3)),
        noise=draws.between(0, difficulty.noise),
        noise_seed=draws.between(0, (1 << 31) - 1),
    )


def _named_objects(draws: _Draws, difficulty: Difficulty) -> list[SceneObject]:
    placed: list[SceneObject] = []
    for number in range(1 + draws.between(*difficulty.others)):
        main = number == 0
        radius = draws.between(*(difficulty.main_radius if main else difficulty.other_radius)) * SIDE // 1000
        margin = SIDE // 4 if main else SIDE // 10
        for _ in range(PLACEMENT_ATTEMPTS):
            x, y = draws.between(margin, SIDE - margin), draws.between(margin, SIDE - margin)
            if all(_apart(x, y, radius, other) for other in placed):
                break
        else:
            if not main:
                continue  # no room
        colour = draws.of(tuple(COLOURS))
        jitter = difficulty.colour_jitter
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
                says_colour=draws.between(1, 3) > 1,
            )
        )
    first = draws.between(0, len(placed) - 1)  # which of them lies lowest
    return placed[first:] + placed[:first]


def _apart(x: int, y: int, radius: int, other: SceneObject) -> bool:
    # Overlaps happen, but never so much that an object could disappear.
    reach = 3 * (radius + other.radius) // 4
    return (x - other.x) ** 2 + (y - other.y) ** 2 >= reach * reach


def _clutter(
    draws: _Draws, count: tuple[int, int], smallest: int, largest: int, turn: int
) -> list[SceneObject]:
    return [
        SceneObject(
            shape=draws.of(UNNAMED_SHAPES),
            colour='',
            rgb=(draws.between(20, 235), draws.between(20, 235), draws.between(20, 235)),
            texture=draws.of(TEXTURES),
            x=draws.between(0, SIDE),
            y=draws.between(0, SIDE),
            radius=draws.between(smallest, largest) * SIDE // 1000,
            angle=draws.between(-turn, turn) % TURN,
        )
        for _ in range(draws.between(*count))
    ]
