import shutil

import numpy as np
import pytest
from conftest import write_images
from PIL import Image

from mvp_mm.datasets import write_shards
from mvp_mm.datasets.prepare.survey import survey


@pytest.fixture
def folder(tmp_path):
    """Twelve images of three sizes, a copy, one compressed anew, and two that cannot be read."""
    place = tmp_path / 'photos'
    for number, size in enumerate([(80, 96), (300, 200), (640, 250)]):
        write_images(place / str(number), 4, size, seed=number)
    shutil.copy(place / '1/0002.jpg', place / 'copy.jpg')
    Image.open(place / '2/0001.jpg').resize((320, 125)).save(place / 'smaller.png')
    (place / 'broken.jpg').write_bytes(b'no image')
    (place / 'cut.jpg').write_bytes((place / '2/0003.jpg').read_bytes()[:900])
    return place


def test_by_hand(folder):
    found = survey(str(folder), workers=1)
    assert (found.kind, found.options, found.count) == ('UnlabelledImages', dict(data_root=str(folder)), 16)
    faulty = {photograph.path: photograph.fault for photograph in found.looked_at if photograph.fault}
    assert set(faulty) == {str(folder / 'broken.jpg'), str(folder / 'cut.jpg')}
    assert all('\n' not in fault and fault for fault in faulty.values())
    sides = sorted(map(tuple, found.sides().tolist()))
    assert sides == sorted([(80, 96)] * 4 + [(200, 300)] * 5 + [(250, 640)] * 4 + [(125, 320)])
    assert found.smaller_than(224) == 10 / 14 and found.smaller_than(81) == 4 / 14
    assert found.copies() == [(str(folder / 'copy.jpg'), str(folder / '1/0002.jpg'))]
    assert found.alike() == [(str(folder / 'smaller.png'), str(folder / '2/0001.jpg'))]
    assert not found.oddities()


@pytest.mark.slow
def test_a_sample_is_said_and_repeats(folder):
    found = survey(str(folder), sample=6, workers=2)
    assert (found.count, len(found.looked_at)) == (16, 6)
    assert survey(str(folder), sample=6, workers=1) == found
    assert survey(str(folder), sample=6, workers=1, seed=1) != found


@pytest.mark.slow
def test_lists_and_shards(folder, tmp_path):
    names = sorted(path.relative_to(folder) for path in (folder / '1').iterdir())
    (folder / 'some.txt').write_text('\n'.join(map(str, names)))
    (folder / 'some.csv').write_text('image,caption\n' + ''.join(f'{name},a text\n' for name in names))
    shards = str(tmp_path / 'shards')
    write_shards(str(folder / '1'), shards, per_shard=3)
    expected = survey(str(folder / '1'), workers=1)
    for place, kind, options in (
        (
            folder / 'some.txt',
            'UnlabelledImages',
            dict(data_root=str(folder), ann_file=str(folder / 'some.txt')),
        ),
        (folder / 'some.csv', 'ImageTextList', dict(data_root=str(folder / 'some.csv'))),
        (shards, 'ImageTextShards', dict(data_root=shards)),
        (f'{shards}/*.tar', 'ImageTextShards', dict(data_root=f'{shards}/*.tar')),
    ):
        found = survey(str(place), workers=1)
        assert (found.kind, found.options, found.count) == (kind, options, 4)
        contents = [photograph.content for photograph in found.looked_at]
        assert sorted(contents) == sorted(photograph.content for photograph in expected.looked_at)


def test_plain_images_do_not_look_alike(tmp_path):
    for value in (10, 200):
        Image.fromarray(np.full((64, 64, 3), value, np.uint8)).save(tmp_path / f'{value}.png')
    assert survey(str(tmp_path), workers=1).alike() == []


def test_places_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder, list or shard nowhere'):
        survey('nowhere')
    with pytest.raises(FileNotFoundError, match='no image found'):
        survey(str(tmp_path))
    with pytest.raises(ValueError, match="'' names no folder"):
        survey('')
    with pytest.raises(FileNotFoundError, match='there are no shards'):
        survey(str(tmp_path / '*.tar'))
