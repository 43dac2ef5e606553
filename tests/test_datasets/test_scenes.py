"""Scenes: the same bytes everywhere, labels that follow the drawing order, captions that tell the truth."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from mvp_mm.datasets.scenes import (
    CLASSES,
    COLOURS,
    DIFFICULTIES,
    SHAPES,
    SceneCollection,
    caption_of,
    compose_scene,
    label_map,
    render_scene,
    visible_objects,
)
from mvp_mm.datasets.scenes.compose import SceneObject
from mvp_mm.datasets.scenes.render import footprint

STANDARD = DIFFICULTIES['standard']
# Written down once; they change only if what the scenes look like is changed on purpose.
DIGESTS = {
    ('easy', 64): '39dc7f15c843ca12',
    ('standard', 64): 'a4889f8b8a53961a',
    ('standard', 97): '582364575026d218',
    ('hard', 32): '49b6c19710c04c21',
}
EMPTY = dict(
    background=np.full((5, 5, 3), 128, np.uint8), pattern=(0, 1, 9, 0), light=(0, 0), gain=(256,) * 3, noise=0
)


def digest(difficulty, size, count=20):
    sha = hashlib.sha256()
    scenes = SceneCollection('train', count, size, seed=3, difficulty=difficulty)
    for index in range(count):
        image, labels = scenes[index]
        sha.update(image.tobytes() + labels.tobytes() + scenes.describe(index).caption.encode())
    return sha.hexdigest()


@pytest.mark.parametrize(('difficulty', 'size'), list(DIGESTS))
def test_bytes_are_the_recorded_ones(difficulty, size):
    assert digest(difficulty, size)[:16] == DIGESTS[difficulty, size]


def test_another_process_renders_the_same():
    code = (
        'from mvp_mm.datasets.scenes import SceneCollection as C; import sys; '
        "sys.stdout.write(C('val', 9)[5][0].tobytes().hex())"
    )
    output = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert bytes.fromhex(output) == SceneCollection('val', 9)[5][0].tobytes()


def test_draws_do_not_depend_on_order_or_global_state():
    scenes = SceneCollection('train', 10)
    forwards = [scenes[i][0] for i in range(10)]
    np.random.seed(1)
    backwards = [scenes[i][0] for i in reversed(range(10))]
    assert all((a == b).all() for a, b in zip(forwards, reversed(backwards), strict=True))


def test_splits_and_seeds_share_no_scene():
    seen = set()
    for split in ('train', 'val', 'test'):
        for seed in (0, 1):
            scenes = SceneCollection(split, 300, 16, seed)
            seen |= {scenes[i][0].tobytes() for i in range(300)}
    assert len(seen) == 3 * 2 * 300


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


def test_cache_holds_the_same_and_is_used(tmp_path, monkeypatch):
    plain = SceneCollection('val', 12, 32)
    cached = SceneCollection('val', 12, 32, cache_dir=str(tmp_path))
    for index in range(12):
        for a, b in zip(plain[index], cached[index], strict=True):
            assert a.dtype == b.dtype and (a == b).all()
    (file,) = tmp_path.iterdir()
    stamp = file.stat().st_mtime_ns
    SceneCollection('val', 12, 32, cache_dir=str(tmp_path))
    assert file.stat().st_mtime_ns == stamp
    SceneCollection('val', 12, 32, seed=1, cache_dir=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupted_cache_leaves_nothing(tmp_path, monkeypatch):
    def stop(self, index):
        raise KeyboardInterrupt

    monkeypatch.setattr(SceneCollection, '_render', stop)
    with pytest.raises(KeyboardInterrupt):
        SceneCollection('val', 12, 32, cache_dir=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(split='trian', count=1), "split='trian' is none of train, val, test"),
        (dict(split='train', count=0), 'count=0'),
        (dict(split='train', count=1, difficulty='extreme'), 'none of easy, standard, hard'),
        (dict(split='train', count=1, seed=-1), 'seed=-1'),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        SceneCollection(**arguments)


def test_index_and_size_are_checked():
    with pytest.raises(IndexError, match='scene 3 of 3'):
        SceneCollection('train', 3)[3]
    with pytest.raises(ValueError, match='size=4'):
        render_scene(compose_scene(0, 'train', 0, STANDARD), 4)
    assert len(CLASSES) == 1 + len(SHAPES)
