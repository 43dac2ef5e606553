"""What a scene shows, in words."""

from itertools import pairwise

import numpy as np

from .compose import Scene, SceneObject
from .render import HALF, footprint

VISIBLE_SHARE = 0.4  # of an object's own pixels; one that is hidden more is not named
GRID = 64  # visibility is judged at this size whatever the size of the image, so captions do not change


def visible_objects(scene: Scene) -> list[SceneObject]:
    """List all but clutter and what is hidden (:data:`VISIBLE_SHARE`), most visible pixels first."""
    owners = np.zeros((GRID, GRID), dtype=np.uint8)
    own_pixels = []
    for number, item in enumerate(scene.objects, start=1):
        place = footprint(item, GRID)
        taken = place.covered >= HALF
        own_pixels.append(np.count_nonzero(taken))
        owners[place.box][taken] = number
    _, *seen = np.bincount(owners.ravel(), minlength=len(scene.objects) + 1).tolist()
    shown = [
        (pixels, item)
        for pixels, own, item in zip(seen, own_pixels, scene.objects, strict=True)
        if item.label and pixels and pixels >= VISIBLE_SHARE * own
    ]
    return [item for _, item in sorted(shown, key=lambda pair: -pair[0])]


def describe(item: SceneObject) -> str:
    """Describe an object, such as ``'a red star'``; as people do, not always with its colour."""
    words = f'{item.colour} {item.shape}' if item.names_colour else item.shape
    return f'an {words}' if words[0] in 'aeiou' else f'a {words}'


def relation(first: SceneObject, second: SceneObject) -> str:
    """Say where the first object is, seen from the second."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) >= abs(dy):
        return 'left of' if dx < 0 else 'right of'
    return 'above' if dy < 0 else 'below'


def caption_of(items: list[SceneObject]) -> str:
    """Caption all objects of :func:`visible_objects`, each related to the one before it."""
    if not items:
        return 'nothing'
    related = [f'{relation(before, item)} {describe(item)}' for before, item in pairwise(items)]
    return ' '.join([describe(items[0]), *related])
