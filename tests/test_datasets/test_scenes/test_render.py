"""Pixels and label maps follow the drawing order."""

from dataclasses import replace

import numpy as np
import pytest

from mvp_mm.datasets.scenes import CLASSES, DIFFICULTIES, SHAPES, SceneCollection
from mvp_mm.datasets.scenes.compose import SceneObject, compose_scene
from mvp_mm.datasets.scenes.render import footprint, label_map, render_scene

STANDARD = DIFFICULTIES['standard']
EMPTY = dict(
    background=np.full((5, 5, 3), 128, np.uint8), pattern=(0, 1, 9, 0), light=(0, 0), gain=(256,) * 3, noise=0
)


def test_label_map_follows_the_drawing_order():
    """Repaint the masks by hand: the last object that covers half a pixel has it."""
    for index in range(60):
        scene = compose_scene(0, 'train', index, DIFFICULTIES['hard'])
        _, owners = render_scene(scene, 64)
        expected = np.zeros((64, 64), np.uint8)
        for item in scene.objects:
            place = footprint(item, 64)
            if place is not None:
                expected[place.box][place.covered >= 2] = item.label
        assert (label_map(scene, owners) == expected).all()


def test_pixels_change_just_where_the_object_is():
    scene = replace(compose_scene(0, 'train', 0, STANDARD), objects=(), **EMPTY)
    item = SceneObject('square', 'red', (250, 10, 10), 'plain', 2048, 2048, 1200, 5)
    image, owners = render_scene(replace(scene, objects=(item,)), 64)
    untouched, _ = render_scene(scene, 64)
    changed = (image != untouched).any(-1)
    assert (changed | (owners == 0)).all() and (changed >= (owners == 1)).all()
    assert (image[owners == 1][:, 0] > 180).all()
    # a square of half side 760/1024 of the radius
    side = 2 * 760 / 1024 * 1200 / 4096 * 64
    assert owners.sum() == pytest.approx(side**2, rel=0.05)


@pytest.mark.parametrize('shape', SHAPES)
def test_every_shape_is_seen_and_turns(shape):
    masks = []
    for angle in (0, 8, 16):
        item = SceneObject(shape, 'blue', (10, 10, 250), 'plain', 2048, 2048, 1500, angle)
        scene = replace(compose_scene(0, 'train', 0, STANDARD), objects=(item,), **EMPTY)
        masks.append(render_scene(scene, 96)[1])
    areas = [int(mask.sum()) for mask in masks]
    assert min(areas) > 0.1 * 96**2 and max(areas) < 1.06 * min(areas)
    if shape not in ('circle', 'ring'):
        assert (masks[0] != masks[1]).mean() > 0.01
    # a quarter turn is an exact rotation
    assert (np.rot90(masks[0], -1) != masks[2]).mean() < 0.01


def test_sizes_show_the_same_scene():
    scene = compose_scene(0, 'train', 4, STANDARD)
    small, large = (label_map(scene, render_scene(scene, size)[1]) for size in (64, 256))
    assert (large[2::4, 2::4] == small).mean() > 0.97


def test_index_and_size_are_checked():
    with pytest.raises(IndexError, match='scene 3 of 3'):
        SceneCollection('train', 3)[3]
    with pytest.raises(ValueError, match='size=4'):
        render_scene(compose_scene(0, 'train', 0, STANDARD), 4)
    assert len(CLASSES) == 1 + len(SHAPES)
