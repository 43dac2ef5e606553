"""Every kind of tar has its outcome: what can be read is used, what is wrong is one sentence."""

import io
import pickle
import shutil
import subprocess
import tarfile
import tracemalloc

import numpy as np
import pytest
from tar_shards import image, samples, write_shards, write_tar

from mvp_mm.datasets.sources import shard_index
from mvp_mm.datasets.sources.shard_index import KINDS, read_index, scan_shard, texts_of


def content(path, index, row, kind='image'):
    offset, size = index.places[row, KINDS.index(kind)].tolist()
    return None if size < 0 else path.read_bytes()[offset : offset + size]


def test_where_the_members_lie(tmp_path):
    (path,) = write_shards(tmp_path, [5])
    index = scan_shard(path)
    assert len(index) == 5 and not index.faults
    for row in range(5):
        assert index.name(row) == f'{row:06d}.jpg'
        assert content(path, index, row) == image(row)
        assert content(path, index, row, 'txt') == f'number {row}'.encode()
        assert content(path, index, row, 'json') is None
    assert index.labels.tolist() == [0, 1, 2, 3, 4] and index.captioned.tolist() == [1] * 5


def test_an_index_is_kept_whole(tmp_path):
    (path,) = write_shards(tmp_path, [5])
    index, kept = scan_shard(path), tmp_path / 'kept.index'
    index.save(kept)
    for again in (read_index(kept), pickle.loads(pickle.dumps(read_index(kept)))):
        assert again.stamp == index.stamp == f'{path.stat().st_size} {path.stat().st_mtime_ns}'
        assert np.array_equal(again.places, index.places) and again.name(3) == '000003.jpg'
    assert kept.stat().st_mode & 0o044  # others read it too
    assert [file.name for file in tmp_path.iterdir() if 'partial' in file.name] == []
    kept.write_bytes(kept.read_bytes()[:-20])
    assert read_index(kept) is None and read_index(tmp_path / 'none') is None
    kept.write_bytes(b'no index')
    assert read_index(kept) is None


def link(name, target):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_members_that_are_refused(tmp_path):
    members = [
        ('a.jpg', image(0)),
        ('a.png', image(1, 'PNG')),  # a second image
        ('a.txt', b'first'),
        ('a.txt', b'second'),
        ('../evil.jpg', image(2)),
        ('/abs.jpg', image(2)),
        ('b/../../evil.txt', b'text'),
        ('lonely.txt', b'without an image'),
        (link('c.jpg', '/etc/passwd'), None),
        ('d.webp', image(3, 'WEBP')),
        ('d.json', b'{broken'),
        ('d.cls', b'one'),
        ('._d.jpg', b'of a Mac'),
        ('e.JPEG', image(4)),
        ('readme.md', b'#'),
        ('f.jpg', image(5)),
        ('f.cls', b'4294967296'),
        ('f.json', b'[' * 100_000),
        ('g.jpg', b''),
    ]
    index = scan_shard(write_tar(tmp_path / 'odd.tar', members))
    assert [index.name(row) for row in range(len(index))] == ['a.jpg', 'd.webp', 'e.JPEG', 'f.jpg']
    told = ' | '.join(index.faults)
    assert '2 of its members or keys repeat a key, of which the first counts, such as a.png' in told
    assert '3 of its members or keys have paths that leave the archive, such as ../evil.jpg' in told
    assert '1 of its members or keys are links, devices or sparse, such as c.jpg' in told
    assert 'have no image, such as lonely' in told
    assert '2 of its members or keys are no json, such as d.json' in told
    assert '2 of its members or keys are no cls, such as d.cls' in told
    assert '1 of its members or keys are empty images, such as g.jpg' in told
    assert len(index.faults) == 7
    assert index.places[1, 2:].tolist() == [[0, -1], [0, -1]] and index.labels.tolist() == [-1] * 4
    assert content(tmp_path / 'odd.tar', index, 0, 'txt') == b'first'


def test_huge_members(tmp_path):
    path = write_tar(tmp_path / 'huge.tar', [('a.jpg', image(0))])
    info = tarfile.TarInfo('b.jpg')
    info.size = 300 << 20
    with path.open('r+b') as file:  # a hole, which takes no room
        file.seek(1024 + 512 * (len(image(0)) // 512))
        file.write(info.tobuf())
        file.truncate(file.tell() + info.size + 1024)
    index = scan_shard(path)
    assert len(index) == 1
    assert index.faults == ['1 of its members or keys are larger than 256 MiB, such as b.jpg']
    info.size = 8 << 40  # a header that lies
    with path.open('r+b') as file:
        file.seek(1024 + 512 * (len(image(0)) // 512))
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(file.tell() + 5000)
    index = scan_shard(path)
    assert len(index) == 1 and index.faults[0].startswith('is truncated in b.jpg')


@pytest.mark.parametrize('cut', [100, 700, 3000, 9000, 20000])
def test_truncated(tmp_path, cut):
    (path,) = write_shards(tmp_path, [12])
    whole, length = scan_shard(path), path.stat().st_size
    assert cut < length - 1024
    path.write_bytes(path.read_bytes()[:cut])
    index = scan_shard(path)
    assert len(index.faults) >= 1 and ('truncated' in index.faults[0] or 'no plain tar' in index.faults[0])
    inside = [row for row in range(12) if whole.places[row, 0].sum() <= cut]
    assert len(index) == len(inside)
    assert np.array_equal(index.places[:, 0], whole.places[inside, 0])


def test_damaged_in_the_middle(tmp_path):
    (path,) = write_shards(tmp_path, [12])
    whole = scan_shard(path)
    start = whole.places[4, 0, 0] - 512  # the header of the fifth image
    with path.open('r+b') as file:
        file.seek(start)
        file.write(b'\xff' * 512)
    index = scan_shard(path)
    names = [index.name(row) for row in range(len(index))]
    assert names == [f'{row:06d}.jpg' for row in range(12) if row != 4]
    assert index.faults[0].startswith(f'is damaged from byte {start:,} to ')
    assert 'have no image, such as 000004' in index.faults[1]


def test_not_a_shard(tmp_path):
    def faults(content, name='a.tar'):
        (tmp_path / name).write_bytes(content)
        index = scan_shard(tmp_path / name)
        assert len(index) == 0
        return ' | '.join(index.faults)

    assert faults(b'') == 'is empty'
    assert faults(bytes(10240)).startswith('holds no sample (jpg, jpeg, png, webp with txt, json, cls)')
    assert "it begins with b'<html>" in faults(b'<html>no access</html>' * 40)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w:gz') as tar:
        tar.addfile(tarfile.TarInfo('a.jpg'))
    assert faults(packed.getvalue()).endswith('unpack it with gunzip')
    others = write_tar(tmp_path / 'b.tar', [('a.mp4', b'film'), ('b.mp4', b'film')])
    assert scan_shard(others).faults[0].endswith('but 2 .mp4')
    assert scan_shard(tmp_path / 'gone.tar').faults == ['cannot be read: No such file or directory']


def test_joined_and_without_an_end(tmp_path):
    first, second = write_shards(tmp_path, [2, 3])
    joined = tmp_path / 'joined.tar'
    joined.write_bytes(first.read_bytes() + second.read_bytes())  # cat a.tar b.tar
    assert len(scan_shard(joined)) == 5 and not scan_shard(joined).faults
    last = scan_shard(first).places[1].sum(-1).max()
    first.write_bytes(first.read_bytes()[: -(-last // 512) * 512])
    index = scan_shard(first)
    assert len(index) == 2 and index.faults == ['has no end: it may be truncated between two members']


@pytest.mark.parametrize('form', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_global_headers(tmp_path, form):
    path, name = tmp_path / 'pax.tar', 'folder/' + 'n' * 200 + '\N{SNOWMAN}.jpg'
    options = dict(format=form, pax_headers=dict(comment='of git archive'))
    with tarfile.open(path, 'w', **options) as tar:
        for number, each in enumerate((name, 'b.jpg')):
            info = tarfile.TarInfo(each)
            info.size = len(image(number))
            tar.addfile(info, io.BytesIO(image(number)))
    index = scan_shard(path)
    assert not index.faults and index.name(0) == name
    assert [content(path, index, row) for row in range(2)] == [image(0), image(1)]


@pytest.mark.parametrize('kind', [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_long_name_of_gigabytes(tmp_path, kind):
    """Its header lies, or the file has a hole: it is not read into memory."""
    (path,) = write_shards(tmp_path, [2])
    place = scan_shard(path).places[1].sum(-1).max()
    info = tarfile.TarInfo('a')
    info.type, info.size = kind, 3 << 30
    with path.open('r+b') as file:
        file.seek(-(-place // 512) * 512)
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(4 << 30)
    tracemalloc.start()
    index = scan_shard(path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert len(index) == 2 and index.faults[0].endswith('a header of 3,221,225,472 bytes')


def test_a_size_that_is_too_small(tmp_path):
    (path,) = write_shards(tmp_path, [3])
    whole = scan_shard(path)
    start = whole.places[1, 0, 0] - 512
    info = tarfile.TarInfo('000001.jpg')
    info.size = 10
    with path.open('r+b') as file:
        file.seek(start)
        file.write(info.tobuf(tarfile.USTAR_FORMAT))
    index = scan_shard(path)
    assert [index.name(row) for row in range(3)] == [f'{row:06d}.jpg' for row in range(3)]
    assert index.places[1, 0].tolist() == [start + 512, 10]  # it will not be decoded, and be replaced
    assert index.faults[0].startswith(f'is damaged from byte {start + 1024:,} to ') and len(index.faults) == 1


def test_sparse_members(tmp_path):
    """As `tar --sparse` writes them, in both of its formats; the members after them count."""
    if shutil.which('tar') is None:
        pytest.skip('there is no tar program')
    with (tmp_path / 'a.jpg').open('wb') as file:
        file.seek(1 << 20)
        file.write(b'end')
    (tmp_path / 'b.jpg').write_bytes(image(1))
    for kind in ('gnu', 'posix'):
        path = tmp_path / f'{kind}.tar'
        command = ['tar', f'--format={kind}', '--sparse', '-cf', path, '-C', tmp_path, 'a.jpg', 'b.jpg']
        subprocess.run(command, check=True)
        index = scan_shard(path)
        assert [index.name(row) for row in range(len(index))] == ['b.jpg']
        assert content(path, index, 0) == image(1)
        if path.stat().st_size < 1 << 20:  # the file system keeps holes
            assert index.faults == ['1 of its members or keys are links, devices or sparse, such as a.jpg']


def test_an_index_of_another_version(tmp_path, monkeypatch):
    (path,) = write_shards(tmp_path, [2])
    kept = tmp_path / 'a.index'
    monkeypatch.setattr(shard_index, 'VERSION', '9')
    scan_shard(path).save(kept)
    assert len(read_index(kept)) == 2
    monkeypatch.undo()
    assert read_index(kept) is None


def test_texts():
    assert texts_of('txt', b'a dog\r\n\n  a  cat ') == ['a dog', 'a cat']
    assert texts_of('txt', b'a dog\na cat', split_lines=False) == ['a dog a cat']
    assert texts_of('txt', b' \n') == []
    assert texts_of('json', b'{"caption": "", "captions": ["a", " "], "width": 3}') == ['a']
    assert texts_of('json', b'"a"') == texts_of('json', b'{"text": "a"}') == ['a']
    assert texts_of('json', b'{"url": "a"}') == []
    assert texts_of('json', b'{"caption": "a", "other": ["b", null, "c \\ud83d"]}', caption_key='other') == [
        *('b', 'c ?')
    ]
    with pytest.raises(ValueError, match='is no caption'):
        texts_of('json', b'{"caption": 3}')


def test_empty_texts_are_told_apart(tmp_path):
    members = [*samples([0]), ('1.jpg', image(1)), ('1.txt', b' \n'), ('2.jpg', image(2))]
    members += [('3.jpg', image(3)), ('3.txt', b''), ('3.json', b'{"caption": "three"}')]
    index = scan_shard(write_tar(tmp_path / 'a.tar', members))
    assert index.captioned.tolist() == [1, 2, 0, 1]
