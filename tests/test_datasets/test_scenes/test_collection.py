"""Scenes: the same bytes everywhere, rendered on the fly or from a cache."""

import hashlib

import numpy as np
import pytest

from mvp_mm.datasets.scenes import SceneCollection

# Written down once; they change only if what the scenes look like is changed on purpose.
DIGESTS = {
    ('easy', 64): '39dc7f15c843ca12',
    ('standard', 64): 'a4889f8b8a53961a',
    ('standard', 97): '582364575026d218',
    ('hard', 32): '49b6c19710c04c21',
}


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
            scenes = SceneCollection(split, 100, 16, seed)
            seen |= {scenes[i][0].tobytes() for i in range(100)}
    assert len(seen) == 3 * 2 * 100


def test_cache_holds_the_same_and_is_used(tmp_path, monkeypatch):
    plain = SceneCollection('val', 12, 32)
    scenes = [plain[index] for index in range(12)]
    SceneCollection('val', 12, 32, cache_dir=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(SceneCollection, '_render', lambda *_: pytest.fail('rendered again'))
        cached = SceneCollection('val', 12, 32, cache_dir=str(tmp_path))
        found = [cached[index] for index in range(12)]
    for rendered, read in zip(scenes, found, strict=True):
        for a, b in zip(rendered, read, strict=True):
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
