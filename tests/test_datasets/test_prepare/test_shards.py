import hashlib
import json
import os
import subprocess

import pytest
from tar_shards import image

from mvp_mm.datasets import ImageTextShards, check_shards, write_shards
from mvp_mm.datasets.prepare import shards as module
from mvp_mm.datasets.prepare.shards import read_checksums


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / 'photographs'
    folder.mkdir()
    for number in range(23):
        (folder / f'{number:02d}.jpg').write_bytes(image(number))
        (folder / f'{number:02d}.txt').write_text(
            f'first {number}\nsecond' if number == 5 else f'number {number}'
        )
    return folder


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob('*.tar'))}


def test_what_is_written(source, tmp_path):
    out = tmp_path / 'out'
    paths = write_shards(source, out, per_shard=5, progress=False)
    assert [path.name for path in paths] == [f'train-000{n}.tar' for n in range(5)]
    assert read_checksums(out / 'train.sha256') == digests(out)
    done = subprocess.run(['sha256sum', '-c', '--quiet', 'train.sha256'], cwd=out, capture_output=True)
    assert done.returncode == 0, done.stdout
    assert len(list(out.glob('*.index'))) == 5  # made with the shards
    shards = ImageTextShards(str(out))
    assert shards.shard_sizes == [5, 5, 5, 5, 3] and not shards.faults
    records = [shards.record(number) for number in range(23)]
    keys = [os.path.basename(key) for key, *_ in records]
    assert keys == [f'{number:09d}.jpg' for number in range(23)]
    number_of = {image(number): number for number in range(23)}
    order = [number_of[content] for _, content, *_ in records]
    assert sorted(order) == list(range(23)) != order
    for number, (_, _, texts, _) in zip(order, records, strict=True):
        assert texts == ([f'first {number}', 'second'] if number == 5 else [f'number {number}'])
    in_order = write_shards(source, tmp_path / 'in_order', shuffle=False, prefix='val', progress=False)
    assert [path.name for path in in_order] == ['val-0000.tar']
    again = ImageTextShards(str(tmp_path / 'in_order'), 'val')
    assert [again.record(number)[1] for number in range(23)] == [image(number) for number in range(23)]


@pytest.mark.parametrize('workers', [1, 2])
def test_resumed(source, tmp_path, workers):
    """Whatever an interruption leaves, the next call makes the same bytes."""
    whole, out = tmp_path / 'whole', tmp_path / 'out'
    write_shards(source, whole, per_shard=5, progress=False)
    write_shards(source, out, per_shard=5, workers=workers, progress=False)
    assert digests(out) == digests(whole)
    (out / 'train-0001.tar').unlink()
    (out / '.train-0001.tar.host-1.partial').write_bytes(b'begun')
    kept = (out / 'train-0002.tar').stat().st_mtime_ns
    lines = (out / 'train.sha256').read_text().splitlines()
    (out / 'train.sha256').write_text('\n'.join([*lines[:3], lines[4][:30]]))  # 3 is whole, its line is not
    (out / 'train-0003.tar').write_bytes(b'cut off')
    write_shards(source, out, per_shard=5, workers=workers, progress=False)
    assert digests(out) == digests(whole) == read_checksums(out / 'train.sha256')
    assert (out / 'train-0002.tar').stat().st_mtime_ns == kept
    assert not list(out.glob('*.partial')) + list(out.glob('.*.partial'))
    assert check_shards(str(out), progress=False) == ({}, 23)


def test_killed_in_the_middle(source, tmp_path, monkeypatch):
    add, calls = module._members, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 13:
            raise KeyboardInterrupt
        return add(*arguments)

    monkeypatch.setattr(module, '_members', killed)
    with pytest.raises(KeyboardInterrupt):
        write_shards(source, tmp_path / 'out', per_shard=5, workers=1, progress=False)
    assert list(read_checksums(tmp_path / 'out/train.sha256')) == ['train-0000.tar', 'train-0001.tar']
    assert len(list((tmp_path / 'out').glob('*.tar'))) == 2
    calls[:] = [1] * 20
    write_shards(source, tmp_path / 'out', per_shard=5, workers=1, progress=False)
    assert len(calls) == 20 + 13
    assert check_shards(str(tmp_path / 'out'), progress=False) == ({}, 23)


def test_another_source_in_the_same_folder(source, tmp_path):
    write_shards(source, tmp_path / 'out', per_shard=5, progress=False)
    with pytest.raises(ValueError, match='begun with another per_shard: give the same'):
        write_shards(source, tmp_path / 'out', per_shard=6, progress=False)
    (source / '03.txt').write_text('changed')
    with pytest.raises(ValueError, match='begun with another source'):
        write_shards(source, tmp_path / 'out', per_shard=5, progress=False)
    write_shards(source, tmp_path / 'out', prefix='val', progress=False)
    with pytest.raises(ValueError, match='per_shard=0: expected 1'):
        write_shards(source, tmp_path / 'out', per_shard=0)


def test_odd_images(tmp_path):
    from PIL import Image

    folder = tmp_path / 'odd'
    folder.mkdir()
    (folder / 'a.jfif').write_bytes(image(0))
    Image.new('RGB', (8, 8), (10, 20, 30)).save(folder / 'b.bmp')
    (folder / 'c.jpg').write_bytes(b'')
    (folder / 'd.gif').write_bytes(b'no picture')
    (folder / 'e.PNG').write_bytes(image(1, 'PNG'))
    rows = [
        dict(image=name, caption=name, label=number) for number, name in enumerate(sorted(os.listdir(folder)))
    ]
    rows += [dict(image='gone.jpg', caption='gone', label=0)]
    (folder / 'list.json').write_text(json.dumps(rows))
    write_shards(
        folder,
        tmp_path / 'out',
        ann_file=str(folder / 'list.json'),
        label_key='label',
        shuffle=False,
        progress=False,
    )
    source = ImageTextShards(str(tmp_path / 'out'), pipeline=[dict(type='LoadRGBImage')])
    found = [source[number] for number in range(3)]
    assert [sample['caption'] for sample in found] == ['a.jfif', 'b.bmp', 'e.PNG']
    assert [sample['gt_label'] for sample in found] == [0, 1, 4]
    assert found[1]['img'].getpixel((0, 0)) == (10, 20, 30)
    lost = (tmp_path / 'out/train.left_out.txt').read_text().splitlines()
    assert [line.split('\t')[0] for line in lost] == ['train-0000.tar'] * 3
    assert 'c.jpg is empty' in lost[0] and 'd.gif cannot be read' in lost[1] and 'gone.jpg' in lost[2]


def test_check(source, tmp_path):
    out = tmp_path / 'out'
    paths = write_shards(source, out, per_shard=5, progress=False)
    content = bytearray(paths[0].read_bytes())
    content[700] ^= 1  # in an image
    paths[0].write_bytes(content)
    paths[1].write_bytes(paths[1].read_bytes()[:4000])
    paths[2].unlink()
    faults, samples = check_shards(str(out), progress=False)
    assert list(faults) == [str(paths[2]), str(paths[0]), str(paths[1])] and 10 < samples < 18
    assert faults[str(paths[2])] == ['is missing']
    assert faults[str(paths[0])][0].startswith('has the sha256 ')
    assert faults[str(paths[1])][0].startswith('is truncated')
    write_shards(source, out, per_shard=5, progress=False)  # only the missing one
    assert set(check_shards(str(out), progress=False)[0]) == {str(paths[0]), str(paths[1])}
    (out / 'train.sha256').unlink()
    assert set(check_shards(str(out), progress=False)[0]) == {str(paths[1])}
    (source / '07.jpg').write_bytes(image(7)[:250])
    write_shards(source, tmp_path / 'other', progress=False)
    assert check_shards(str(tmp_path / 'other'), progress=False)[0] == {}
    (fault,) = check_shards(str(tmp_path / 'other'), decode=True, progress=False)[0].values()
    assert len(fault) == 1 and 'has an image that cannot be read, 0000000' in fault[0]


def test_a_full_disk(source, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(module._Hashed, 'write', full)
    with pytest.raises(
        OSError, match=r'the disk is full while writing .*train-0000.tar: free some space, and call again'
    ):
        write_shards(source, tmp_path / 'out', workers=1, progress=False)
    assert not list((tmp_path / 'out').glob('*.tar'))


def test_remote_shards_are_not_checked():
    with pytest.raises((ValueError, FileNotFoundError), match='memory://'):
        check_shards('memory://bucket/*.tar')
