"""How hard a collection of scenes is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Difficulty:
    """The ranges that a scene's draws come from, ends included.

    Args:
        others: Named objects beside the main one.
        clutter: Unnamed shapes below the objects.
        occluders: Small unnamed shapes above the objects.
        main_radius: Circumradius of the main object, in 1/1000 of the image's side.
        other_radius: Circumradius of the other named objects, same unit.
        turn: Largest rotation of any shape to either side, in 1/64 of a full turn; 32 is every angle.
        background_amplitude: Contrast of the background's pattern, in grey levels.
        noise: Largest deviation of a pixel by noise, in grey levels (triangular distribution).
        light: Largest relative change of brightness from the centre to an edge, in percent.
        colour_jitter: Largest deviation of an object's colour from its name's, in grey levels.
    """

    others: tuple[int, int]
    clutter: tuple[int, int]
    occluders: tuple[int, int]
    main_radius: tuple[int, int]
    other_radius: tuple[int, int]
    turn: int
    background_amplitude: tuple[int, int]
    noise: int
    light: int
    colour_jitter: int


DIFFICULTIES = {
    'easy': Difficulty((0, 1), (0, 1), (0, 0), (300, 400), (150, 220), 4, (0, 15), 10, 10, 15),
    # The setting of every figure in docs and benchmarks.
    'standard': Difficulty((0, 2), (1, 4), (0, 1), (260, 370), (140, 210), 8, (5, 30), 25, 20, 30),
    'hard': Difficulty((2, 4), (4, 9), (1, 3), (150, 240), (100, 160), 32, (15, 60), 50, 40, 45),
}


def named_difficulty(name: str) -> Difficulty:
    """A setting by its name.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in DIFFICULTIES:
        raise ValueError(f'difficulty={name!r} is none of {", ".join(DIFFICULTIES)}')
    return DIFFICULTIES[name]
