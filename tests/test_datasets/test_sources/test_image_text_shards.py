import logging
import os
import pickle
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS
from tar_shards import image, samples, write_shards, write_tar
from torch.utils.data import DataLoader

from mvp_mm.datasets import (
    EpochSampler,
    ImageTextShards,
    SampleIndex,
    ShardSampler,
    SourceMixture,
    UnreadableImageError,
)
from mvp_mm.datasets.sources.shard_files import expand_braces, find_shards

from ...conftest import SHARED

CROP = [dict(type='FastCrop', size=16), dict(type='PackMaskedInputs', meta_keys=('key',))]


def told(caplog):
    return '\n'.join(record.getMessage() for record in caplog.records)


@pytest.fixture(autouse=True)
def log(caplog, monkeypatch):
    monkeypatch.setattr(
        'mvp_mm.datasets.sources.image_text_shards.print_log',
        lambda text, logger, level=logging.INFO: logging.getLogger('root').log(level, text),
    )
    caplog.set_level(logging.INFO)


def test_samples(tmp_path):
    write_shards(tmp_path, [3, 2])
    source = ImageTextShards(str(tmp_path))
    assert len(source) == 5 and source.shard_sizes == [3, 2]
    for number in range(5):
        found = source[SampleIndex(number, 0, 0)]
        assert found['img_bytes'] == image(number) and found['caption'] == f'number {number}'
        assert found['gt_label'] == number % 5 and source.get_cat_ids(number) == [number % 5]
        assert found['key'] == f'{tmp_path}/train-000{number // 3}.tar/{number:06d}.jpg'
    with pytest.raises(IndexError):
        source[5]
    sample = ImageTextShards(str(tmp_path), pipeline=[dict(type='LoadRGBImage')])[4]['img']
    assert np.abs(np.asarray(sample).mean((0, 1)) - (148, 108, 44)).max() < 3


def test_which_shards(tmp_path):
    for prefix in ('train', 'val'):
        write_shards(tmp_path / 'flat', [1, 1, 1], prefix)
    write_shards(tmp_path / 'split' / 'val', [2], 'part')
    write_shards(tmp_path / 'split', [3])
    flat = tmp_path / 'flat'

    def names(*arguments):
        return [os.path.basename(shard) for shard in find_shards(*arguments)]

    assert names(str(flat), 'train') == [f'train-000{n}.tar' for n in range(3)]
    assert len(names(str(flat))) == 6
    assert names(str(tmp_path / 'split'), 'val') == ['part-0000.tar']
    assert names(f'{flat}/{{val,train}}-{{0001..0002}}.tar') == [
        *('val-0001.tar', 'val-0002.tar', 'train-0001.tar', 'train-0002.tar')
    ]
    assert names([f'{flat}/val-*.tar', f'{flat}/val-0000.tar']) == [f'val-000{n}.tar' for n in range(3)]
    assert find_shards(f'file://{flat}/val-0000.tar') == [f'{flat}/val-0000.tar']
    assert expand_braces('a{8..11}b') == ['a8b', 'a9b', 'a10b', 'a11b']
    for pattern in (f'{flat}/gone-*.tar', f'{flat}/train-{{0000..0005}}.tar', tmp_path / 'none'):
        with pytest.raises(FileNotFoundError, match='there are no shards .*(gone|0003|none)'):
            find_shards(str(pattern), 'train')
    with pytest.raises(ValueError, match='is no range'):
        find_shards(f'{flat}/train-{{3..1}}.tar')
    with pytest.raises(ValueError, match='nowhere://bucket/a.tar cannot be read: .*nowhere'):
        find_shards('nowhere://bucket/a.tar')


def test_index_files(tmp_path, monkeypatch, caplog):
    path, _ = write_shards(tmp_path, [3, 2])
    ImageTextShards(str(tmp_path))
    kept = [tmp_path / f'train-000{n}.tar.index' for n in range(2)]
    assert all(file.is_file() for file in kept) and 'indexing 2 shards' in told(caplog)
    times = [file.stat().st_mtime_ns for file in kept]
    caplog.clear()
    ImageTextShards(str(tmp_path))
    assert [file.stat().st_mtime_ns for file in kept] == times and 'indexing' not in told(caplog)
    write_tar(path, samples(range(4)))  # another size
    assert len(ImageTextShards(str(tmp_path))) == 6
    os.utime(path, ns=(0, 1))  # another time
    caplog.clear()
    assert len(ImageTextShards(str(tmp_path))) == 6 and 'indexing 1 shard,' in told(caplog)
    kept[1].write_bytes(b'damaged')
    assert len(ImageTextShards(str(tmp_path))) == 6


def test_index_elsewhere(tmp_path):
    folder = tmp_path / 'read_only'
    write_shards(folder, [3, 2])
    folder.chmod(0o555)
    try:
        assert len(ImageTextShards(str(folder), cache_dir=str(tmp_path / 'cache'))) == 5
        assert len(ImageTextShards(str(folder), index_dir=str(tmp_path / 'own'))) == 5
        assert len(list(folder.iterdir())) == 2  # root could write, and must not
    finally:
        folder.chmod(0o755)
    assert len(list((tmp_path / 'cache').glob('*.index'))) == len(list((tmp_path / 'own').iterdir())) == 2


def test_what_could_not_be_read_is_tried_again(tmp_path):
    write_shards(tmp_path, [3])
    (tmp_path / 'train-0001.tar').mkdir()
    source = ImageTextShards(str(tmp_path))
    assert list(source.faults.values()) == [['cannot be read: Is a directory']] and len(source) == 3
    assert [path.name for path in tmp_path.glob('*.index')] == ['train-0000.tar.index']


def test_indexing_draws_nothing(tmp_path):
    """Whoever makes the index trains as whoever finds it."""
    write_shards(tmp_path, [1] * 9)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    ImageTextShards(str(tmp_path))  # in workers, where there are cores
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ('sampler', 'mixed'), [(EpochSampler, False), (ShardSampler, False), (ShardSampler, True)]
)
def test_each_sample_once(tmp_path, monkeypatch, sampler, mixed):
    """3 epochs x 2 ranks x 3 workers: uneven shards, one cut off, images without texts, and a mixture."""
    sizes = [7, 1, 12, 4]
    paths = write_shards(tmp_path / 'a', sizes)
    paths[2].write_bytes(paths[2].read_bytes()[:25_000])
    members = [*samples(range(24, 29)), *((f'{n}.jpg', image(n)) for n in (40, 41))]
    write_tar(tmp_path / 'a' / 'train-0009.tar', members)
    options = dict(type='ImageTextShards', data_root=str(tmp_path / 'a'), require_caption=True)
    source = DATASETS.build(dict(options, pipeline=[_number]))
    assert source.shard_sizes[:2] == [7, 1] and 0 < source.shard_sizes[2] < 12
    assert source.shard_sizes[3:] == [4, 5] and list(source.faults) == [str(paths[2])]
    expected = [source[number] for number in range(len(source))]
    if mixed:
        write_shards(tmp_path / 'b', [4])
        (tmp_path / 'c').mkdir()
        for number in range(30, 34):
            (tmp_path / 'c' / f'{number:06d}.jpg').write_bytes(image(number))
        other = dict(type='ImageTextShards', data_root=str(tmp_path / 'b'), pipeline=[_negative])
        listed = dict(type='ImageTextList', data_root=str(tmp_path / 'c'), pipeline=[_path])
        source = SourceMixture([dict(options, pipeline=[_number]), other, listed])
        expected += [-1, -2, -3, -4, 30, 31, 32, 33]
    assert len(expected) % 2 == 0  # for two ranks
    orders = []
    for epoch in range(3):
        found = []
        for rank in range(2):
            monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
            order = sampler(source, seed=5)
            order.set_epoch(epoch)
            found.append([n for batch in DataLoader(source, 5, sampler=order, num_workers=3) for n in batch])
        found = torch.tensor(found).T.flatten().tolist()
        assert Counter(found) == Counter(expected)
        orders.append(found)
    assert orders[0] != orders[1] != orders[2]


def _path(results):
    return int(os.path.basename(results['img_path'])[:6])


def _number(results):
    number = _path(results)
    assert results['caption'] == f'number {number}' and results['img_bytes'] == image(number)
    return number


def _negative(results):
    return -1 - _number(results)


def test_captions_are_drawn_by_seed_epoch_and_index(tmp_path):
    text = b'one\ntwo\nthree'
    members = [
        (f'{n}.{kind}', image(n) if kind == 'jpg' else text) for n in range(40) for kind in ('jpg', 'txt')
    ]
    write_tar(tmp_path / 'a.tar', members)
    source = ImageTextShards(str(tmp_path / 'a.tar'))

    def drawn(epoch, seed=0, **options):
        made = ImageTextShards(str(tmp_path / 'a.tar'), **options) if options else source
        return [made[SampleIndex(n, epoch, seed)]['caption'] for n in range(40)]

    assert drawn(0) == drawn(0) != drawn(1) and drawn(0, 1) != drawn(0)
    counts = Counter(drawn(0) + drawn(1) + drawn(2))
    assert set(counts) == {'one', 'two', 'three'} and min(counts.values()) > 20
    assert drawn(0, fixed_draws=True) == drawn(1, fixed_draws=True)
    assert set(drawn(0, split_lines=False)) == {'one two three'}


def test_class_names_and_templates(tmp_path):
    write_shards(tmp_path, [10])
    names = tmp_path / 'classes.txt'
    names.write_text('n01\tcat\nn02\tdog, hound\nn03\tcar\nn04\tsea\nn05\tsky\n', 'utf-16')
    members = [
        (f'{n}.{kind}', image(n) if kind == 'jpg' else b'1') for n in range(10) for kind in ('jpg', 'cls')
    ]
    write_tar(tmp_path / 'named' / 'a.tar', members)
    source = ImageTextShards(
        str(tmp_path / 'named'), classes=str(names), templates=('a {}.', 'the {}!'), require_caption=True
    )
    assert source.metainfo['classes'] == ('cat', 'dog, hound', 'car', 'sea', 'sky')
    found = {source[SampleIndex(n, epoch, 0)]['caption'] for n in range(10) for epoch in range(9)}
    assert found == {'a dog.', 'a hound.', 'the dog!', 'the hound!'}
    assert ImageTextShards(str(tmp_path), templates='simple')[0]['caption'] != 'number 0'
    with pytest.raises(ValueError, match='label 4, but `classes` has 1'):
        write_tar(tmp_path / 'more' / 'a.tar', [('4.jpg', image(4)), ('4.cls', b'4')])
        ImageTextShards(str(tmp_path / 'more'), classes=['cat'])[0]
    with pytest.raises(FileNotFoundError, match='`classes` names'):
        ImageTextShards(str(tmp_path), classes='gone.txt')
    with pytest.raises(ValueError, match='unknown'):
        ImageTextShards(str(tmp_path), templates='gone')


def test_samples_without_captions(tmp_path, caplog):
    members = [*samples(range(4)), ('7.jpg', image(7)), ('8.jpg', image(8)), ('8.txt', b'\n')]
    write_tar(tmp_path / 'a.tar', members)
    source = ImageTextShards(str(tmp_path))
    assert len(source) == 6 and 'caption' not in source[5]
    assert '6 images, 1 empty captions passed over, 2 without a caption;' in told(caplog)
    captions = [dict(type='FastCrop', size=8), dict(type='PackMaskedInputs', fields=('caption',))]
    needed = ImageTextShards(str(tmp_path), pipeline=captions)
    assert len(needed) == 4 and needed.shard_sizes == [4]
    assert '4 images, 1 empty captions passed over, 2 without a caption left out;' in told(caplog)
    assert [needed[n]['caption'] for n in range(4)] == [f'number {n}' for n in range(4)]


def test_only_some_classes(tmp_path):
    write_shards(tmp_path, [7, 6])
    source = ImageTextShards(str(tmp_path), labels=[1, 3])
    assert source.shard_sizes == [3, 2]
    assert [source[n]['gt_label'] for n in range(5)] == [1, 3, 1, 3, 1]
    assert [source.get_cat_ids(n) for n in range(5)] == [[1], [3], [1], [3], [1]]
    with pytest.raises(FileNotFoundError, match='no sample to use in 2 shards'):
        ImageTextShards(str(tmp_path), labels=[99])


def test_broken_shards_are_told_and_used(tmp_path, caplog):
    paths = write_shards(tmp_path, [4, 4, 4, 2])
    paths[1].write_bytes(paths[1].read_bytes()[:5000])
    paths[2].write_bytes(b'<html>')
    source = ImageTextShards(str(tmp_path))
    assert source.shard_sizes[0] == 4 and 0 < source.shard_sizes[1] < 4 and source.shard_sizes[2] == 0
    assert list(source.faults) == [str(paths[1]), str(paths[2])]
    assert f'The shard {paths[1]} is truncated' in told(caplog)
    assert f"The shard {paths[2]} is no plain tar file, it begins with b'<html>'" in told(caplog)
    assert sorted(ShardSampler(source, window=2, seed=0)) == list(range(len(source)))
    captions = [source[n].get('caption') for n in range(len(source))]  # the text of an image may be cut off
    assert captions[-2:] == ['number 12', 'number 13'] and captions[4] == 'number 4'
    with pytest.raises(FileNotFoundError, match='no sample to use in 1 shard of .* is no plain tar'):
        ImageTextShards(str(paths[2]))


def test_an_image_that_cannot_be_read_is_replaced(tmp_path):
    members = [*samples(range(4)), ('bad.jpg', image(9)[:300]), ('bad.txt', b'bad')]
    write_tar(tmp_path / 'a.tar', members)
    source = ImageTextShards(str(tmp_path), pipeline=CROP)
    sample = source[SampleIndex(4, 0, 0)]['data_samples']
    assert sample.unreadable[0][0] == f'{tmp_path}/a.tar/bad.jpg' and sample.key != sample.unreadable[0][0]
    assert source[SampleIndex(4, 0, 0)]['data_samples'].key == sample.key
    with pytest.raises(UnreadableImageError, match='bad.jpg'):
        ImageTextShards(str(tmp_path), pipeline=CROP, max_refetch=0)[SampleIndex(4, 0, 0)]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_shard_that_vanishes_or_changes(tmp_path, workers):
    path, other = write_shards(tmp_path, [4, 4])
    source = ImageTextShards(str(tmp_path), pipeline=CROP)

    def read():
        batches = iter(DataLoader(source, 2, num_workers=workers, collate_fn=default_collate))
        try:
            return [sample.key for batch in batches for sample in batch['data_samples']]
        finally:
            if workers:
                batches._shutdown_workers()  # an error keeps them; the garbage collector waits for each

    assert len(read()) == 8
    content, times = path.read_bytes(), path.stat()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f'the shard {path} has vanished while it was in use'):
        read()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'the shard {path} has changed while it was in use'):
        read()  # the time differs
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert len(read()) == 8  # brought back as it was
    path.write_bytes(content[:2048])
    with pytest.raises(ValueError, match='has changed while it was in use'):
        read()


def test_a_replacement_comes_from_the_same_shard(tmp_path):
    """A remote one is here; only if the shard has nothing else it comes from others."""
    for shard, good in enumerate((5, 5, 0)):
        members = list(samples(range(10 * shard, 10 * shard + good))) + [
            (f'bad{n}.jpg', b'bad') for n in '123'
        ]
        write_tar(tmp_path / f'train-{shard}.tar', members)
    source = ImageTextShards(str(tmp_path), pipeline=CROP, max_refetch=40)
    for index in (5, 6, 7, 13, 14, 15):
        for epoch in range(3):
            key = source[SampleIndex(index, epoch, 0)]['data_samples'].key
            assert key.startswith(f'{tmp_path}/train-{index // 8}.tar/0')
    assert 'train-2' not in source[SampleIndex(17, 0, 0)]['data_samples'].key


def test_captions_in_a_field(tmp_path):
    """`caption_key` takes the place of txt and of the usual keys, and is counted."""
    members = []
    for number, written in enumerate(('["first", "second"]', '" "', 'null')):
        members += [(f'{number}.jpg', image(number)), (f'{number}.txt', b'from the web')]
        members += [(f'{number}.json', f'{{"caption": "from the web", "rewritten": {written}}}'.encode())]
    path = write_tar(tmp_path / 'a.tar', members)
    options = dict(data_root=str(path), require_caption=True)
    assert {ImageTextShards(**options)[n]['caption'] for n in range(3)} == {'from the web'}
    source = ImageTextShards(**options, caption_key='rewritten')
    assert len(source) == 1
    drawn = {source[SampleIndex(0, epoch, 0)]['caption'] for epoch in range(20)}
    assert drawn == {'first', 'second'}
    assert len(ImageTextShards(**options)) == 3  # the index is about the texts that are asked for


def test_packed_shards(tmp_path):
    """A folder of .tar.gz is not without shards: they are to be unpacked."""
    for name, mode, tool in (
        ('a.tar.gz', 'w:gz', 'gunzip'),
        ('b.tgz', 'w:gz', 'gunzip'),
        ('c.tar.xz', 'w:xz', 'unxz'),
    ):
        folder = tmp_path / name[0]
        folder.mkdir()
        tarfile.open(folder / name, mode).close()
        with pytest.raises(
            FileNotFoundError, match=f'{name} is no plain tar file, .*: unpack it with {tool}'
        ):
            ImageTextShards(str(folder))


def test_indexed_by_several_processes_at_once(tmp_path):
    write_shards(tmp_path, [5, 6, 7])
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            length = 0
            try:
                length = len(ImageTextShards(str(tmp_path)))
            finally:
                os._exit(length)
        children.append(child)
    lengths = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert lengths == [18] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f'train-000{n}.tar{ending}' for n in range(3) for ending in ('', '.index')
    )


def test_workers_that_are_spawned(tmp_path):
    write_shards(tmp_path, [4, 4])
    source = pickle.loads(pickle.dumps(ImageTextShards(str(tmp_path))))
    assert [source[n]['caption'] for n in range(8)] == [f'number {n}' for n in range(8)]


@pytest.mark.slow
def test_tiny_imagenet(tmp_path):
    if not (folder := SHARED / 'data' / 'tiny_imagenet').is_dir():
        pytest.skip('the shards of Tiny-ImageNet are not beside the project')
    source = ImageTextShards(
        f'{folder}/*.tar',
        pipeline=[dict(type='LoadRGBImage')],
        cache_dir=str(tmp_path),
        classes=f'{folder}/classes.txt',
    )
    assert len(source) == 45_000 and len(source.shards) == 45 and not source.faults
    assert set(source.shard_sizes) == {1000}
    classes = source.metainfo['classes']
    assert len(classes) == 200 and classes[0] == 'goldfish, Carassius auratus'
    for number in (0, 17_171, 44_999):
        sample = source[SampleIndex(number, 0, 0)]
        assert sample['img'].size == (64, 64) and sample['caption'] == classes[sample['gt_label']]
    held_out = ImageTextShards(str(folder), 'val', labels=range(160, 200), cache_dir=str(tmp_path))
    labels = np.concatenate([index.labels for index in source._indices[40:]])
    assert len(held_out) == int((labels >= 160).sum()) > 0
