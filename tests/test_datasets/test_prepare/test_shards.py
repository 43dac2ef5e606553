import hashlib
import json
import os
import signal
import subprocess
import tarfile
import time

import fsspec
import pytest
from filelock import FileLock
from tar_shards import image, samples, write_tar

import mvp_mm_command
from mvp_mm.datasets import ImageTextList, ImageTextShards, check_shards, write_shards
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
    for name in ('-0001.tar', '.sha256', '.plan.json', '.left_out.txt', '.classes.txt'):
        (out / f'.train{name}.host-1.partial').write_bytes(b'begun')
    of_another = out / '.train-b-0000.tar.host-2.partial'
    of_another.write_bytes(b'begun')
    kept = (out / 'train-0002.tar').stat().st_mtime_ns
    lines = (out / 'train.sha256').read_text().splitlines()
    (out / 'train.sha256').write_text('\n'.join([*lines[:3], lines[4][:30]]))  # 3 is whole, its line is not
    (out / 'train-0003.tar').write_bytes(b'cut off')
    write_shards(source, out, per_shard=5, workers=workers, progress=False)
    assert digests(out) == digests(whole) == read_checksums(out / 'train.sha256')
    assert (out / 'train-0002.tar').stat().st_mtime_ns == kept
    assert list(out.glob('*.partial')) == [of_another]
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


@pytest.mark.parametrize('mended', [False, True])
def test_left_out_once(tmp_path, mended):
    """A shard that is written again says again what it lacks, and what it lacks no more is not said."""
    images = tmp_path / 'images'
    images.mkdir()
    for number in range(6):
        (images / f'{number}.jpg').write_bytes(image(number) if number % 2 else b'')
    out, lost = tmp_path / 'out', tmp_path / 'out/train.left_out.txt'
    write_shards(images, out, per_shard=2, shuffle=False, progress=False)
    told = lost.read_text()
    assert [line.split('\t')[0] for line in told.splitlines()] == [f'train-000{i}.tar' for i in range(3)]
    sums = (out / 'train.sha256').read_text().splitlines(keepends=True)
    (out / 'train.sha256').write_text(sums[0])  # killed after what the second lacks was written
    lost.write_text(told[: told.index('train-0002') + 20])
    if mended:
        (images / '2.jpg').write_bytes(image(2))
        (images / '4.jpg').write_bytes(image(4))
    write_shards(images, out, per_shard=2, shuffle=False, progress=False)
    assert lost.read_text() == (told[: told.index('train-0001')] if mended else told)


def test_killed_for_real(source, tmp_path, monkeypatch):
    """SIGKILL of a run with two workers; the same call at once waits for what it left, and goes on."""
    whole, out, members = tmp_path / 'whole', tmp_path / 'out', module._members
    write_shards(source, whole, per_shard=3, progress=False)
    calls = []

    def slow(*arguments):
        calls.append(os.getppid())
        while len(calls) > 6 and os.getppid() == calls[0]:  # two shards, and the rest after the kill
            time.sleep(0.01)
        return members(*arguments)

    if not (child := os.fork()):
        try:
            monkeypatch.setattr(module, '_members', slow)
            write_shards(source, out, per_shard=3, workers=2, progress=False)
        finally:
            os._exit(1)
    until = time.monotonic() + 60
    while len(read_checksums(out / 'train.sha256')) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    done = read_checksums(out / 'train.sha256')
    assert 2 <= len(done) < 8
    kept = {name: (out / name).stat().st_mtime_ns for name in done}
    write_shards(source, out, per_shard=3, workers=2, progress=False)
    assert digests(out) == digests(whole) == read_checksums(out / 'train.sha256')
    assert {name: (out / name).stat().st_mtime_ns for name in done} == kept
    assert not list(out.glob('.*.partial')) and check_shards(str(out), progress=False) == ({}, 23)


def test_two_at_once(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'PATIENCE', 0)
    with (
        FileLock(tmp_path / '.train.lock'),
        pytest.raises(OSError, match='another process writes train shards to .*: wait for it'),
    ):
        write_shards(source, tmp_path, progress=False)


def test_class_folders(tmp_path):
    for number in range(6):
        path = tmp_path / 'images' / ('b dog', 'a cat', 'c car')[number % 3] / f'{number}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image(number))
    write_shards(tmp_path / 'images', tmp_path / 'out', class_folders=True, progress=False)
    names = tmp_path / 'out/train.classes.txt'
    assert names.read_text() == 'a cat\nb dog\nc car\n'
    source = ImageTextShards(str(tmp_path / 'out'), classes=str(names), templates=['a {}.'])
    number_of = {image(number): number for number in range(6)}
    for index in range(6):
        sample = source[index]
        label = (1, 0, 2)[number_of[sample['img_bytes']] % 3]
        assert sample['gt_label'] == label
        assert sample['caption'] == f'a {("a cat", "b dog", "c car")[label]}.'
    (tmp_path / 'images' / '7.jpg').write_bytes(image(7))
    with pytest.raises(ValueError, match='7.jpg is in no folder of a class'):
        ImageTextList(str(tmp_path / 'images'), class_folders=True)
    with pytest.raises(ValueError, match='images has 3 sub-folders, expected one for each of 2 classes'):
        ImageTextList(str(tmp_path / 'images'), class_folders=True, classes=['cat', 'dog'])
    with pytest.raises(ValueError, match='a cat has 0 sub-folders, expected one for each of the classes'):
        ImageTextList(str(tmp_path / 'images' / 'a cat'), class_folders=True)


def test_shards_that_were_unpacked(tmp_path):
    folder = tmp_path / 'unpacked'
    folder.mkdir()
    with tarfile.open(write_tar(tmp_path / 'a.tar', samples(range(6)))) as tar:
        tar.extractall(folder, filter='data')
    write_shards(folder, tmp_path / 'out', shuffle=False, progress=False)
    before, after = ImageTextShards(str(tmp_path / 'a.tar')), ImageTextShards(str(tmp_path / 'out'))
    assert [before.record(n)[1:] for n in range(6)] == [after.record(n)[1:] for n in range(6)]
    assert not (tmp_path / 'out/train.left_out.txt').exists()
    (folder / '000003.cls').write_text('four')
    with pytest.raises(ValueError, match="000003.cls: invalid literal .*'four'"):
        ImageTextList(str(folder))


def test_from_the_command_line(source, tmp_path, capsys, monkeypatch):
    """A list of another folder's images, with columns of other names; then shards are checked."""
    rows = ''.join(f'{number};{number:02d}.jpg;fotografía {number}\n' for number in range(23))
    (tmp_path / 'list.tsv').write_bytes(f'nr;datei;texto\n{rows}'.replace(';', '\t').encode('cp1252'))
    options = f'--images {source} --image-key datei --caption-key texto --label-key nr --encoding cp1252'
    command = f'shards {tmp_path}/list.tsv --out {tmp_path}/out --per-shard 10 --workers 1 {options}'
    monkeypatch.setattr('sys.argv', ['mvp-mm', *command.split()])
    mvp_mm_command.main()
    printed = capsys.readouterr().out
    assert f'3 shards in {tmp_path}/out: train-0000.tar to train-0002.tar\n23 images\n' in printed
    assert 'INFO' not in printed
    found = ImageTextShards(str(tmp_path / 'out'))
    samples = [found[number] for number in range(23)]
    assert sorted(sample['gt_label'] for sample in samples) == list(range(23))
    for sample in samples:
        assert sample['caption'] == f'fotografía {sample["gt_label"]}'
        assert sample['img_bytes'] == image(sample['gt_label'])
    monkeypatch.setattr('sys.argv', f'mvp-mm shards {tmp_path}/out --check --decode --workers 1'.split())
    mvp_mm_command.main()
    assert 'All shards are whole: 23 samples' in capsys.readouterr().out


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
    files = fsspec.filesystem('memory')
    files.pipe('/bucket/a.tar', b'')
    try:
        with pytest.raises(ValueError, match=r'memory://bucket/\*.tar is not on this machine'):
            check_shards('memory://bucket/*.tar')
    finally:
        files.rm('/bucket', recursive=True)


def test_splits_of_one_folder_have_the_same_classes(source, tmp_path):
    for split, names in (('a', ('bus', 'cat')), ('b', ('cat',))):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / '0.jpg').write_bytes(image(0))
    options = dict(class_folders=True, progress=False)
    write_shards(tmp_path / 'a', tmp_path / 'out', **options)
    with pytest.raises(ValueError, match='train.classes.txt has other classes than val: cat'):
        write_shards(tmp_path / 'b', tmp_path / 'out', prefix='val', **options)
    write_shards(tmp_path / 'a', tmp_path / 'out', prefix='val', **options)
    for split, name in (('a', 'train'), ('b', 'val')):
        (tmp_path / 'both').mkdir(exist_ok=True)
        (tmp_path / split).rename(tmp_path / 'both' / name)
    with pytest.raises(ValueError, match='holds the splits train, val: give one of them'):
        write_shards(tmp_path / 'both', tmp_path / 'others', **options)


@pytest.mark.parametrize('name', ['out [1]', 'a {1,2}', 'b*'])
def test_folders_with_the_signs_of_patterns(source, tmp_path, name):
    write_shards(source, tmp_path / name, per_shard=12, progress=False)
    assert check_shards(str(tmp_path / name), progress=False) == ({}, 23)
    assert len(ImageTextShards(str(tmp_path / name / 'train-0000.tar'))) == 12


def test_shards_of_another_split_are_not_taken(source, tmp_path):
    write_shards(source, tmp_path / 'out', progress=False)
    with pytest.raises(FileNotFoundError, match="no shards .*out of the split 'val'"):
        ImageTextShards(str(tmp_path / 'out'), 'val')


def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path / 'old')
    os.mkdir(folder)
    for name, content in ((b'caf\xe9.gif', b'no image'), (b'b.jpg', image(1))):
        with open(os.path.join(folder, name), 'wb') as file:
            file.write(content)
        with open(os.path.join(folder, name[:-4] + b'.txt'), 'wb') as file:
            file.write(b'words')
    write_shards(tmp_path / 'old', tmp_path / 'out', progress=False)
    left_out = (tmp_path / 'out/train.left_out.txt').read_bytes()
    assert b'caf\xe9.gif cannot be read' in left_out and len(ImageTextShards(str(tmp_path / 'out'))) == 1
