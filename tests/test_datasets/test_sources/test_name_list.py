"""Lists of images, as any editor and system writes them."""

import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from mvp_mm.datasets import LabelledImages, UnlabelledImages
from mvp_mm.datasets.segmentation import SegmentationFolder
from mvp_mm.datasets.sources.name_list import read_lines

NAMES = ['b/2.png', 'ä 1.png', 'c.png']


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        for top in ('images', 'maps'):
            path = tmp_path / top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('L', (4, 4)).save(path)
    return tmp_path


def unlabelled(folder):
    return UnlabelledImages(str(folder / 'images'), ann_file=str(folder / 'list.txt'))


def labelled(folder):
    return LabelledImages(str(folder), data_prefix='images', ann_file='list.txt', classes=['x', 'y', 'z'])


def segmented(folder):
    with DefaultScope.overwrite_default_scope('mmseg'):
        return SegmentationFolder(
            metainfo=dict(classes=('x', 'y')),
            data_root=str(folder),
            data_prefix=dict(img_path='images', seg_map_path='maps'),
            img_suffix='.png',
            ann_file='list.txt',
        )


# how a dataset is made, and a line of its list
MAKERS = {
    unlabelled: '{}.png'.format,
    labelled: '{}.png 2'.format,
    segmented: '{}'.format,
}


@pytest.mark.parametrize('ends', ['\n', '\r\n', '\r', ' \t\r\n\r\n'])
@pytest.mark.parametrize('mark', [b'', b'\xef\xbb\xbf'])
@pytest.mark.parametrize('make', MAKERS)
def test_marks_and_line_ends(make, mark, ends, folder):
    lines = [MAKERS[make](name.removesuffix('.png')) for name in NAMES]
    (folder / 'list.txt').write_bytes(mark + ends.join([*lines, '']).encode())
    dataset = make(folder)
    infos = [dataset.get_data_info(number) for number in range(len(dataset))]
    assert [info['img_path'] for info in infos] == [f'{folder}/images/{name}' for name in NAMES]
    if make is labelled:
        assert [info['gt_label'] for info in infos] == [2, 2, 2]


@pytest.mark.parametrize('make', MAKERS)
@pytest.mark.parametrize(
    'content,words',
    [
        ('c\n'.encode('utf-16'), r'is no list in UTF-8 \(it looks like UTF-16, as PowerShell writes\): save'),
        ('c\n'.encode('utf-16-le'), r'is no list in UTF-8 \(it looks like UTF-16'),
        ('ä 1\n'.encode('latin-1'), r"is no list in UTF-8 \('utf-8' codec can't decode byte 0xe4"),
    ],
)
def test_other_encodings(make, content, words, folder):
    (folder / 'list.txt').write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        make(folder)
    assert 'list.txt' in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('make', MAKERS)
def test_backslashes(make, folder):
    (folder / 'list.txt').write_text('\n'.join(map(MAKERS[make], ['c', r'b\2'])))
    with pytest.raises(FileNotFoundError, match=r'b\\2.png, which .*list.txt names: write paths with / '):
        make(folder)


@pytest.mark.parametrize('make', MAKERS)
def test_paths_relative_to_another_folder(make, folder):
    (folder / 'list.txt').write_text('\n'.join(map(MAKERS[make], ['images/c', 'images/b/2'])))
    with pytest.raises(FileNotFoundError, match='images/images/c.png, which .*list.txt names'):
        make(folder)


@pytest.mark.parametrize('line', ['c.png', 'c.png cat', 'c.png -1', 'c.png 3', 'c.png,2', '2'])
def test_lines_without_a_class(line, folder):
    (folder / 'list.txt').write_text(f'b/2.png 0\n{line}\n')
    with pytest.raises(ValueError, match=rf"has the line '{line}': expected a path, a space .* 0 to 2$"):
        labelled(folder)


def test_tabs_and_aligned_columns(folder):
    (folder / 'list.txt').write_text('b/2.png\t1\nä 1.png     0\n')
    assert [info['gt_label'] for info in map(labelled(folder).get_data_info, range(2))] == [1, 0]


def test_an_empty_list(folder):
    (folder / 'list.txt').write_bytes(b'\xef\xbb\xbf\r\n')
    assert read_lines(folder / 'list.txt') == []
    for make, words in (
        (unlabelled, 'no image found'),
        (labelled, 'names no image'),
        (segmented, 'names no image'),
    ):
        with pytest.raises(FileNotFoundError, match=words):
            make(folder)


def test_a_name_with_its_suffix(folder):
    (folder / 'list.txt').write_text('c.png\n')
    assert len(segmented(folder)) == 1
