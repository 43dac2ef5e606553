"""One search for every dataset and tool: the same files for the same folder or list, whoever asks."""

import os
from pathlib import Path

import pytest
from mmengine.registry import DefaultScope
from mmseg.datasets import ADE20KDataset
from PIL import Image

from mvp_mm.datasets import LabelledImages, UnlabelledImages
from mvp_mm.datasets.segmentation import ADE20KImages, SegmentationFolder
from mvp_mm.datasets.sources.image_files import ENDINGS, find_images, read_lines, sub_folders
from mvp_mm.evaluation.picture_files import image_files

CLUTTER = (
    '.DS_Store',
    '._1.jpg',
    '.ipynb_checkpoints/1-checkpoint.jpg',
    '__MACOSX/a/1.jpg',
    '@eaDir/1.jpg/2.jpg',
)


def put(folder: Path, *names: str) -> Path:
    """Images, whatever their names end with."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(folder / name, format='PNG')
    return folder


def folder_of(kind: str, folder: Path) -> Path:
    """Where a command of a kind finds the images of a folder of its own."""
    return folder / {'labelled': 'train/a', 'segmentation': 'images/train', 'ade20k': 'images'}.get(kind, '')


def seen(kind: str, folder: Path) -> set[str]:
    """The images that a command finds, relative to :func:`folder_of`."""
    if kind == 'segment.py':
        paths = image_files([folder])
    else:
        with DefaultScope.overwrite_default_scope(
            'mmseg' if kind in ('segmentation', 'ade20k') else 'mmpretrain'
        ):
            if kind == 'unlabelled':
                dataset = UnlabelledImages(str(folder))
            elif kind == 'labelled':
                put(folder, 'train/b/0.png')
                dataset = LabelledImages(str(folder), split='train')
            elif kind == 'segmentation':
                dataset = SegmentationFolder(
                    metainfo=dict(classes=('x', 'y')),
                    data_root=str(folder),
                    data_prefix=dict(img_path='images/train'),
                )
            else:
                dataset = ADE20KImages(data_root=str(folder), data_prefix=dict(img_path='images'))
        paths = [dataset.get_data_info(number)['img_path'] for number in range(len(dataset))]
    below = folder_of(kind, folder)
    return {os.path.relpath(path, below) for path in paths} - {'../b/0.png'}


KINDS = ('unlabelled', 'labelled', 'segmentation', 'ade20k', 'segment.py')


@pytest.mark.parametrize('kind', KINDS)
def test_hidden_names_and_links(kind, tmp_path):
    below = put(folder_of(kind, tmp_path / 'data'), '1.jpg', 'deep/2.jpg', *CLUTTER)
    put(below / 'deep', *CLUTTER)
    put(tmp_path / 'elsewhere', '3.jpg', 'x/4.jpg')
    (below / 'deep/linked').symlink_to(tmp_path / 'elsewhere')
    (below / 'again').symlink_to(below / 'deep/linked')
    (below / 'up').symlink_to(below)
    (below / 'deep/far up').symlink_to(tmp_path)  # which also holds what is beside the folder
    (tmp_path / 'elsewhere/back').symlink_to(below)
    (below / 'self').symlink_to('self')
    found = seen(kind, tmp_path / 'data')
    assert found in (
        {'1.jpg', 'deep/2.jpg', 'again/3.jpg', 'again/x/4.jpg'},
        {'1.jpg', 'deep/2.jpg', 'deep/linked/3.jpg', 'deep/linked/x/4.jpg'},
    )


@pytest.mark.parametrize('kind', ['unlabelled', 'labelled', 'segment.py'])
def test_every_ending_in_capitals_or_not(kind, tmp_path):
    names = {f'{case(ending)[1:]}{case(ending)}' for ending in ENDINGS for case in (str.lower, str.upper)}
    below = put(folder_of(kind, tmp_path), *names)
    for name in ('a.txt', 'b.heic', 'jpg', 'c.jpg.part'):
        (below / name).touch()
    assert seen(kind, tmp_path) == names


@pytest.mark.parametrize('kind', ['unlabelled', 'labelled', 'segmentation', 'ade20k'])
def test_what_is_left_out_is_counted_in_one_line(kind, tmp_path, monkeypatch):
    lines = []
    for module in ('image_folder', 'labelled_images', 'segmentation_folder'):
        monkeypatch.setattr(
            f'mvp_mm.datasets.sources.{module}.print_log', lambda line, *_: lines.append(line)
        )
    below = put(folder_of(kind, tmp_path), '1.jpg', *CLUTTER)
    for name in ('a.txt', 'b.TXT', 'c.heic', 'd'):
        (below / name).touch()
    assert seen(kind, tmp_path) == {'1.jpg'}
    (line,) = lines
    assert line.endswith('; left out: 2 .txt, 1 .heic, 1 without an ending')


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(put(tmp_path, 'a.jpg') / 'b.jpg')
    found = find_images(tmp_path)
    assert found.paths == ['a.jpg'] and found.left_out == {'.jpg': 1}


def test_links_to_images(tmp_path):
    put(tmp_path / 'elsewhere', '1.png')
    root = put(tmp_path / 'root', '0.png')
    (root / 'link.png').symlink_to(tmp_path / 'elsewhere/1.png')
    (root / 'gone.png').symlink_to('nowhere.png')
    found = find_images(root)
    assert found.paths == ['0.png', 'gone.png', 'link.png'] and found.broken_links == ['gone.png']


def test_the_folder_itself_may_be_hidden_or_a_link(tmp_path):
    put(tmp_path / '.cache/__MACOSX', '1.png')
    (tmp_path / 'link').symlink_to('.cache/__MACOSX')
    assert (
        find_images(tmp_path / '.cache/__MACOSX').paths == find_images(tmp_path / 'link').paths == ['1.png']
    )
    with pytest.raises(FileNotFoundError):
        find_images(tmp_path / 'gone')


def test_sub_folders(tmp_path):
    put(tmp_path / 'train', *(f'{name}/1.png' for name in ('b', 'a', '.hidden', '__MACOSX')))
    put(tmp_path / 'store', 'c/1.png')
    for name, target in dict(c='../store/c', aa='a', up='..', here='.', self='self').items():
        (tmp_path / 'train' / name).symlink_to(target)
    assert sub_folders(tmp_path / 'train') == ['a', 'b', 'c']


def test_a_class_keeps_the_images_that_another_links_to(tmp_path):
    put(tmp_path / 'train', 'cat/1.png', 'dog/2.png', 'dog/puppies/3.png')
    (tmp_path / 'train/cat/friends').symlink_to(tmp_path / 'train/dog')
    (tmp_path / 'train/cat/young').symlink_to(tmp_path / 'train/dog/puppies')
    dataset = LabelledImages(str(tmp_path), split='train')
    labels = {Path(info['img_path']).name: info['gt_label'] for info in map(dataset.get_data_info, range(3))}
    assert len(dataset) == 3 and labels == {'1.png': 0, '2.png': 1, '3.png': 1}


def test_ade20k_is_found_as_mmseg_finds_it(tmp_path):
    for number in range(5):
        put(tmp_path / 'images', f'{number % 2}/{number}.jpg')
        put(tmp_path / 'annotations', f'{number % 2}/{number}.png')
    arguments = dict(
        data_root=str(tmp_path), data_prefix=dict(img_path='images', seg_map_path='annotations'), pipeline=[]
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        ours, mmsegs = ADE20KImages(**arguments), ADE20KDataset(**arguments)
    assert len(ours) == 5
    assert [ours.get_data_info(i) for i in range(5)] == [mmsegs.get_data_info(i) for i in range(5)]


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
