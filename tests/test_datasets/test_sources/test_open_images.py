import shutil

import pytest

from mvp_mm.datasets.prepare.shards import write_shards
from mvp_mm.datasets.sources.open_images import open_images


@pytest.mark.slow
def test_what_lies_there_is_opened(image_folder, tmp_path):
    write_shards(str(image_folder), tmp_path / 'shards', progress=False)
    (image_folder / 'some.txt').write_text('a/0000.jpg\nb/0001.jpg\n')
    (image_folder / 'some.csv').write_text('image,caption\na/0000.jpg,one\n')
    for place, kind, count in (
        (image_folder, 'UnlabelledImages', 8),
        (image_folder / 'some.txt', 'UnlabelledImages', 2),
        (image_folder / 'some.csv', 'ImageTextList', 1),
        (tmp_path / 'shards', 'ImageTextShards', 8),
        (tmp_path / 'shards/train-*.tar', 'ImageTextShards', 8),
        (tmp_path / 'shards/train-0000.tar', 'ImageTextShards', 8),
    ):
        dataset, options = open_images(str(place))
        assert (type(dataset).__name__, len(dataset)) == (kind, count), place
        assert len(type(dataset)(**options)) == count


def test_an_archive_beside_images_is_none_of_them(image_folder, tmp_path):
    write_shards(str(image_folder), tmp_path / 'shards', progress=False)
    shutil.copy(tmp_path / 'shards/train-0000.tar', image_folder)
    dataset, _ = open_images(str(image_folder))
    assert (type(dataset).__name__, len(dataset)) == ('UnlabelledImages', 8)


def test_places_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no folder, list or shard nowhere'):
        open_images('nowhere')
    with pytest.raises(ValueError, match='names no folder'):
        open_images(' ')
