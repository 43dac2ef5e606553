"""Captions tell what can be seen."""

from dataclasses import replace

from mvp_mm.datasets.scenes import COLOURS, DIFFICULTIES, SHAPES
from mvp_mm.datasets.scenes.caption import caption_of, visible_objects
from mvp_mm.datasets.scenes.compose import SceneObject, compose_scene
from mvp_mm.datasets.scenes.render import label_map, render_scene

STANDARD = DIFFICULTIES['standard']


def test_captions_name_what_is_visible():
    named = set()
    for index in range(200):
        scene = compose_scene(5, 'train', index, STANDARD)
        items = visible_objects(scene)
        caption = caption_of(items)
        labels = label_map(scene, render_scene(scene, 64)[1])
        assert items, 'every scene shows something'
        for item in items:
            words = f'{item.colour} {item.shape}' if item.names_colour else item.shape
            assert words in caption
            assert (labels == item.label).sum() > 0
        assert sum(caption.split().count(shape) for shape in SHAPES) == len(items)
        named |= set(caption.split())
    assert set(SHAPES) | set(COLOURS) <= named


def test_hidden_objects_are_not_named():
    scene = compose_scene(0, 'train', 0, STANDARD)
    star = SceneObject('star', 'red', (250, 0, 0), 'plain', 1000, 1000, 600, 0)
    cover = replace(star, shape='circle', radius=800)
    beside = replace(cover, x=3000)
    assert visible_objects(replace(scene, objects=(star, cover))) == [cover]
    assert visible_objects(replace(scene, objects=(star, beside))) == [beside, star]
    words = caption_of([beside, star])
    assert caption_of([replace(star, shape='arrow', names_colour=False)]) == 'an arrow'
    assert words == 'a red circle right of a red star'
    assert caption_of([replace(star, y=3000, colour='orange'), star]) == ('an orange star below a red star')


def test_clutter_is_background():
    scene = compose_scene(0, 'train', 0, STANDARD)
    bar = SceneObject('bar', '', (250, 0, 0), 'plain', 1000, 1000, 900, 0)
    scene = replace(scene, objects=(bar,))
    assert not label_map(scene, render_scene(scene, 64)[1]).any() and visible_objects(scene) == []
