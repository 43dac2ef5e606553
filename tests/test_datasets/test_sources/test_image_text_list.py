import json
import logging
import os

import numpy as np
import pytest
from tar_shards import image

from mvp_mm.datasets import ImageTextList, SampleIndex
from mvp_mm.datasets.sources import caption_lists
from mvp_mm.datasets.sources.image_text_list import PackedStrings

CAPTIONED = [dict(type='FastCrop', size=8), dict(type='PackMaskedInputs', fields=('caption',))]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / 'images'
    (folder / 'b').mkdir(parents=True)
    for number, name in enumerate(('a.jpg', 'b/c.jpg', 'd.jpg')):
        (folder / name).write_bytes(image(number))
    return folder


@pytest.fixture
def told(caplog, monkeypatch):
    monkeypatch.setattr(
        'mvp_mm.datasets.sources.image_text_list.print_log',
        lambda text, logger, level=logging.INFO: logging.getLogger('root').log(level, text),
    )
    caplog.set_level(logging.INFO)
    return lambda: caplog.records[-1].getMessage()


def texts(source):
    """Captions by the file's name."""
    records = [source.record(number) for number in range(len(source))]
    return {os.path.basename(path): (captions, label) for path, _, captions, label in records}


def listed(root, name, text, written='utf-8', **options):
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode(written))
    return texts(ImageTextList(str(root), ann_file=str(root / name), **options))


EXPECTED = {'a.jpg': (['a dog', 'Ein “Fuß”'], None), 'c.jpg': (['a cat, asleep'], None)}
CSV = 'image,caption\na.jpg,a dog\nb/c.jpg,"a cat, asleep"\na.jpg,Ein “Fuß”\n'
TSV = 'filepath\ttitle\na.jpg\ta dog\nb/c.jpg\ta cat, asleep\na.jpg\tEin “Fuß”\n'
JSONL = '{"file_name": "a.jpg", "text": ["a dog", "Ein “Fuß”"]}\n\n'
JSONL += '{"file_name": "b/c.jpg", "text": "a cat, asleep"}'
COCO = json.dumps(
    dict(
        images=[dict(id=7, file_name='a.jpg'), dict(id=3, file_name='b/c.jpg')],
        annotations=[
            dict(image_id=7, caption='a dog'),
            dict(image_id=3, caption='a cat,\nasleep '),
            dict(image_id=7, caption='Ein “Fuß”'),
        ],
    )
)
DOG = dict(image='a.jpg', caption=['a dog', 'Ein “Fuß”'])
ROWS = json.dumps([DOG, dict(image='b/c.jpg', caption='a cat, asleep')])


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize(
    ('name', 'text'), [('l.csv', CSV), ('l.TSV', TSV), ('l.jsonl', JSONL), ('l.json', COCO), ('m.json', ROWS)]
)
def test_every_list_says_the_same(root, name, text, encoding):
    assert listed(root, name, text, encoding) == EXPECTED


def test_line_ends_and_other_encodings(root):
    assert listed(root, 'l.csv', CSV.replace('\n', '\r\n')) == EXPECTED
    assert listed(root, 'l.csv', CSV, 'cp1252', encoding='cp1252') == EXPECTED
    with pytest.raises(
        ValueError, match=r"l.csv is not in utf-8 .*name its encoding, such as encoding='cp1252'"
    ):
        listed(root, 'l.csv', CSV, 'cp1252')
    with pytest.raises(ValueError, match='unknown encoding: none'):
        listed(root, 'l.csv', CSV, encoding='none')


def test_quotes(root):
    """Quotes, commas, line ends and tabs inside captions, as each format writes them."""
    expected = {'a.jpg': (['a "5 inch" screen, off', 'two lines'], None), 'd.jpg': (['5" nail'], None)}
    text = 'image,caption\r\na.jpg,"a ""5 inch"" screen, off"\r\na.jpg,"two\r\nlines"\r\nd.jpg,5" nail\r\n'
    assert listed(root, 'l.csv', text) == expected
    text = 'image\tcaption\na.jpg\t"a ""5 inch"" screen, off"\na.jpg\ttwo  lines\nd.jpg\t5" nail\n'
    assert listed(root, 'l.tsv', text) == expected
    rows = [dict(image='a.jpg', caption='a "5 inch"\u2028screen, off')]
    rows += [dict(image='a.jpg', caption='two\tlines\n'), dict(image='d.jpg', caption='5" nail')]
    text = '\n'.join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert listed(root, 'l.jsonl', text) == expected


def test_cut_emoji_and_none(root, told):
    """Half a surrogate pair cannot be encoded; None and blank texts are empty captions."""
    text = (
        '{"image": "a.jpg", "captions": ["a dog \\ud83d", null, " "]}\n{"image": "d.jpg", "captions": null}'
    )
    assert listed(root, 'l.jsonl', text) == {'a.jpg': (['a dog ?'], None), 'd.jpg': ([], None)}
    assert '2 images, 2 empty captions passed over, 1 without a caption;' in told()


def test_parquet_without_pyarrow(root, monkeypatch):
    monkeypatch.setattr(caption_lists.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(
        ValueError, match=r"l.parquet: Parquet needs a package .*: pip install 'mvp_mm\[parquet\]'"
    ):
        listed(root, 'l.parquet', b'PAR1')


def test_parquet(root):
    pyarrow = pytest.importorskip('pyarrow', reason='Parquet is read if pyarrow is installed')
    from pyarrow.parquet import write_table

    rows = [dict(path='a.jpg', caption='a dog'), dict(path='b/c.jpg', caption='a cat, asleep')]
    rows.append(dict(path='a.jpg', caption='Ein “Fuß”'))
    write_table(pyarrow.Table.from_pylist(rows), root / 'l.parquet')
    assert texts(ImageTextList(str(root), ann_file=str(root / 'l.parquet'))) == EXPECTED
    columns = dict(
        file_name=pyarrow.array(['a.jpg', 'b/c.jpg', 'd.jpg']).dictionary_encode(),
        text=pyarrow.array([['a dog', 'Ein “Fuß”'], ['a cat, asleep', None], None]),
        number=pyarrow.array([1, 0, None], pyarrow.int16()),
        pixels=pyarrow.array([b'not', b'read', b'']),
    )
    write_table(pyarrow.table(columns), root / 'm.parquet', row_group_size=2)
    found = texts(ImageTextList(str(root), ann_file=str(root / 'm.parquet'), label_key='number'))
    assert {name: value[0] for name, value in found.items()} == {
        **{name: value[0] for name, value in EXPECTED.items()},
        'd.jpg': [],
    }
    assert [value[1] for value in found.values()] == [1, 0, None]
    whole = (root / 'm.parquet').read_bytes()
    with pytest.raises(ValueError, match='n.parquet is no Parquet file'):
        listed(root, 'n.parquet', whole[:-100])
    with pytest.raises(ValueError, match="row 1, has the image 'None'|row 1, has no image"):
        write_table(pyarrow.table(dict(image=['a.jpg', None])), root / 'o.parquet')
        ImageTextList(str(root), ann_file=str(root / 'o.parquet'))
    with pytest.raises(ValueError, match='l.parquet is no Parquet file'):
        listed(root, 'l.parquet', b'no parquet')
    write_table(pyarrow.table(dict(a=[1])), root / 'l.parquet')
    with pytest.raises(ValueError, match='has the columns a, and none of image'):
        ImageTextList(str(root), ann_file=str(root / 'l.parquet'))


def test_a_list_as_the_root(root):
    (root / 'l.csv').write_text(CSV)
    source = ImageTextList(str(root / 'l.csv'))
    assert texts(source) == EXPECTED
    assert source[0]['img_path'] == str(root / 'a.jpg')


def test_columns(root):
    named = 'url,datei,text,satz,nr\nx,a.jpg,no,a dog,3\nx,d.jpg,no,,\n'
    options = dict(image_key='datei', caption_key='satz', label_key='nr')
    assert listed(root, 'l.csv', named, **options) == {'a.jpg': (['a dog'], 3), 'd.jpg': ([], None)}
    with pytest.raises(ValueError, match=r"l.csv has the columns url, datei, text, .*give image_key='NAME'"):
        listed(root, 'l.csv', named)
    with pytest.raises(ValueError, match='and none of gone: give caption_key'):
        listed(root, 'l.csv', named, image_key='datei', caption_key='gone')


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('l.csv', 'image,caption\na.jpg,a cat, asleep\n', 'line 2, has 3 fields, expected 2: put captions'),
        ('l.csv', 'image,caption\n,a cat\n', 'line 2, has no image: expected a path'),
        (
            'l.csv',
            'image,caption\na.jpg,"' + 'x' * 140_000,
            'line 2 or before: field larger than field limit',
        ),
        (
            'l.csv',
            'image,caption\na.jpg,"a cat\nb/c.jpg,a dog\n',
            'line 3 or before: unexpected end of data. A',
        ),
        ('l.csv', 'image,caption\na.jpg,"a 5" screen"\n', "line 2 or before: ',' expected after"),
        ('l.csv', 'image,label\na.jpg,4294967296\n', 'line 2: 4294967296 is no class number'),
        ('l.csv', 'image,label\na.jpg,cat\n', "line 2: invalid literal for int.*'cat'"),
        ('l.jsonl', '{"image": "a.jpg"}\nhello\n', 'line 2 is no JSON: Expecting value'),
        ('l.jsonl', '["a.jpg"]\n', 'line 1 is .*expected {"image"'),
        ('l.jsonl', '{"image": "a.jpg", "caption": 3}\n', "line 1: '3' is no caption"),
        ('l.json', '{"image": "a.jpg"}\n', 'has no "images" and "annotations"'),
        (
            'l.json',
            '{"image": "a.jpg"}\n{"image": "b.jpg"}\n',
            'One row a line is JSON Lines: name it .jsonl',
        ),
        (
            'l.json',
            '{"images": [], "annotations": [{"image_id": 5}]}',
            'captions of an image 5 that it does not',
        ),
        ('l.json', '{"images": [1], "annotations": [2]}', "is none of COCO's lists of captions"),
        ('l.json', '{"images": [{"id": 1}], "annotations": []}', 'image 1, has no image: expected a path'),
        ('l.jsonl', '[' * 100_000, 'is nested too deeply'),
        ('l.json', '[' * 100_000, 'is nested too deeply'),
        ('l.xlsx', 'PK', 'its name must end in .csv, .tsv'),
    ],
)
def test_lists_that_are_none(root, name, text, message):
    options = dict(label_key='label') if 'label' in text else {}
    with pytest.raises(ValueError, match=message) as caught:
        listed(root, name, text, **options)
    assert '\n' not in str(caught.value)


def test_what_is_not_there(root):
    with pytest.raises(FileNotFoundError, match='there is no list .*gone.csv, which ann_file names'):
        ImageTextList(str(root), ann_file='gone.csv')
    with pytest.raises(FileNotFoundError, match='there is no folder or list .*gone'):
        ImageTextList(str(root / 'gone'))
    with pytest.raises(FileNotFoundError, match='no image found in '):
        listed(root, 'l.csv', 'image,caption\n')
    with pytest.raises(FileNotFoundError, match='nor any other that was looked at'):
        listed(root, 'l.csv', 'image,caption\ngone.jpg,a\nlost.jpg,b\n')


def test_texts_beside_images(root, told):
    (root / 'a.txt').write_text('a dog\r\n\nEin “Fuß”\n', 'utf-16')
    (root / 'b' / 'c.txt').write_bytes('a cat, asleep'.encode('utf-8-sig'))
    (root / 'd.txt').write_text(' \n')
    source = ImageTextList(str(root))
    assert texts(source) == {**EXPECTED, 'd.jpg': ([], None)}
    assert told() == f'ImageTextList: 3 images, 1 empty captions passed over, 1 without a caption; {root}'
    assert texts(ImageTextList(str(root), split_lines=False))['a.jpg'] == (['a dog Ein “Fuß”'], None)
    source = ImageTextList(str(root), pipeline=CAPTIONED)
    assert texts(source) == EXPECTED
    assert '2 images, 1 empty captions passed over, 1 without a caption left out' in told()
    assert source[1]['caption'] == 'a cat, asleep'
    drawn = [source[SampleIndex(0, epoch, 0)]['caption'] for epoch in range(20)]
    assert set(drawn) == {'a dog', 'Ein “Fuß”'}
    assert drawn == [source[SampleIndex(0, epoch, 0)]['caption'] for epoch in range(20)]


def test_split_and_nothing_captioned(root):
    (root / 'train').mkdir()
    (root / 'train' / 'e.jpg').write_bytes(image(5))
    assert list(texts(ImageTextList(str(root)))) == ['e.jpg']
    assert len(ImageTextList(str(root), split='val')) == 4
    with pytest.raises(
        FileNotFoundError, match=r'no image with a caption found in .*\(1 without a caption\)'
    ):
        ImageTextList(str(root), pipeline=CAPTIONED)


def test_packed_strings():
    words = ['', 'a', 'Fuß ☃', b'\xff'.decode('utf-8', 'surrogateescape'), 'x' * 1000]
    packed = PackedStrings(iter(words))
    assert list(packed) == words and packed[1:3] == words[1:3] and len(packed) == 5
    assert len(PackedStrings([])) == 0
    with pytest.raises(IndexError):
        packed[5]
    assert all(
        isinstance(value, np.ndarray) for value in vars(packed).values()
    )  # no object of its own a string
