"""What a scene shows, in words."""

import numpy as np

from .compose import Scene, SceneObject
from .render import HALF, footprint

VISIBLE_SHARE = 0.4  # of an object's own pixels; one that is hidden more is not named
GRID = 64  # visibility is judged at this size whatever the size of the image, so captions do not change


def visible_objects(scene: Scene) -> list[SceneObject]:
    """The objects worth naming, the one with most visible pixels first.

    Clutter is left out, and so is what is hidden by more than :data:`VISIBLE_SHARE` allows.
    """
    owners = np.zeros((GRID, GRID), dtype=np.uint8)
    own_pixels = [0]
    for number, item in enumerate(scene.objects, start=1):
        place = footprint(item, GRID)
        taken = None if place is None else place.covered >= HALF
        own_pixels.append(0 if taken is None else int(np.count_nonzero(taken)))
        if taken is not None:
            owners[place.rows, place.columns][taken] = number
    seen = np.bincount(owners.ravel(), minlength=len(own_pixels)).tolist()
    shown = [
        (seen[i], item)
        for i, item in enumerate(scene.objects, start=1)
        if item.label and seen[i] and seen[i] >= VISIBLE_SHARE * own_pixels[i]
    ]
    shown.sort(key=lambda pair: -pair[0])
    return [item for _, item in shown]


def describe(item: SceneObject) -> str:
    """An object in words, such as ``'a red star'``; as people do, not always with its colour."""
    words = f'{item.colour} {item.shape}' if item.says_colour else item.shape
    return f'an {words}' if words[0] in 'aeiou' else f'a {words}'


def relation(first: SceneObject, second: SceneObject) -> str:
    """Where the first object is, seen from the second."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) >= abs(dy):
        return 'left of' if dx < 0 else 'right of'
    return 'above' if dy < 0 else 'below'


def caption_of(items: list[SceneObject]) -> str:
    """All objects of :func:`visible_objects`, each related to the one before it."""
    if not items:
        return 'nothing'
    parts = [describe(items[0])]
    for before, item in zip(items, items[1:], strict=False):
        parts.append(f'{relation(before, item)} {describe(item)}')
    return ' '.join(parts)
