"""A source of one's own needs ``__len__``, ``sample`` and a registration."""

from io import BytesIO

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmpretrain.registry import DATASETS, TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, SampleIndex, SampleSource, UnreadableImageError

WORDS = ('red', 'green', 'blue', 'grey')
PIPELINE = [
    dict(type='FastCrop', size=32),
    dict(type='BlockwiseMask', input_size=4, num_masking_patches=6, min_num_patches=1),
    dict(type='NumberWords'),
    dict(type='PackMaskedInputs', meta_keys=('key',), fields=('tokens', 'caption')),
]


@DATASETS.register_module()
class CaptionedBytes(SampleSource):
    """Images that lie in memory, as those of an archive, each with a caption."""

    def __init__(self, broken=(), **kwargs):
        super().__init__(**kwargs)
        rng = np.random.default_rng(0)
        self.files = []
        for number in range(8):
            file = BytesIO()
            Image.fromarray(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8)).save(file, 'JPEG')
            self.files.append(file.getvalue()[: 300 if number in broken else None])

    def __len__(self):
        return len(self.files)

    def sample(self, index):
        return f'photos.tar/{index}.jpg', self.files[index], dict(caption=WORDS[index % 4])


@TRANSFORMS.register_module()
class NumberWords:
    def __call__(self, results):
        return dict(results, tokens=[WORDS.index(results['caption']), 7])


def batches(workers=0, batch_size=4, **options):
    dataset = DATASETS.build(dict(type='CaptionedBytes', pipeline=PIPELINE, **options))
    sampler = EpochSampler(dataset, seed=3)
    return list(
        DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, collate_fn=default_collate)
    )


def test_a_batch_has_a_tensor_for_every_field():
    first, second = batches()
    assert first['inputs'].shape == (4, 3, 32, 32) and first['inputs'].dtype == torch.uint8
    assert first['mask'].shape == (4, 4, 4) and first['mask'].sum((1, 2)).tolist() == [6] * 4
    numbers = [int(sample.key[11]) for sample in first['data_samples']]
    assert first['tokens'].tolist() == [[number % 4, 7] for number in numbers]
    assert list(first['caption']) == [WORDS[number % 4] for number in numbers]
    keys = {sample.key for batch in (first, second) for sample in batch['data_samples']}
    assert keys == {f'photos.tar/{number}.jpg' for number in range(8)}


def test_draws_depend_on_seed_epoch_and_index_alone():
    expected = torch.cat([batch['inputs'] for batch in batches()])
    np.random.seed(5)
    assert torch.equal(torch.cat([batch['inputs'] for batch in batches(workers=2, batch_size=3)]), expected)
    source = CaptionedBytes(pipeline=PIPELINE)
    crops = [source[SampleIndex(2, epoch, 0)]['inputs'] for epoch in (0, 0, 1)]
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])
    fixed = CaptionedBytes(pipeline=PIPELINE, fixed_draws=True)
    assert torch.equal(fixed[SampleIndex(2, 1, 0)]['inputs'], crops[0])


def test_bytes_that_cannot_be_read_are_replaced_and_named():
    source = CaptionedBytes(broken=[1, 4], pipeline=PIPELINE)
    sample = source[SampleIndex(4, 0, 0)]
    unreadable = sample['data_samples'].unreadable
    assert unreadable[0] == ('photos.tar/4.jpg', 'OSError: Truncated File Read')
    assert sample['data_samples'].key not in ('photos.tar/1.jpg', 'photos.tar/4.jpg')
    assert source[SampleIndex(4, 0, 0)]['data_samples'].key == sample['data_samples'].key
    nothing = CaptionedBytes(broken=range(8), pipeline=PIPELINE, max_refetch=2)
    with pytest.raises(UnreadableImageError, match=r'3 images in a row .*\n  photos.tar/4.jpg: OSError'):
        nothing[SampleIndex(4, 0, 0)]


def test_a_sample_that_its_source_cannot_fetch_is_replaced():
    class Remote(CaptionedBytes):
        def sample(self, index):
            if index == 5:
                raise UnreadableImageError.of('photos.tar', 'TimeoutError: no answer')
            return super().sample(index)

    sample = Remote(pipeline=PIPELINE)[SampleIndex(5, 0, 0)]
    assert sample['data_samples'].unreadable[0][1] == 'TimeoutError: no answer'


def test_other_errors_are_not_hidden():
    source = CaptionedBytes(pipeline=[lambda results: 1 / 0])
    with pytest.raises(ZeroDivisionError):
        source[0]


def test_what_enters_the_pipeline(tmp_path):
    class Files(SampleSource):
        def __len__(self):
            return 2

        def sample(self, index):
            return [('a', tmp_path / 'a.png', dict(label=1)), ('b', None, dict(img='pixels'))][index]

    assert Files()[0] == dict(key='a', sample_idx=0, img_path=str(tmp_path / 'a.png'), label=1)
    assert Files()[1] == dict(key='b', sample_idx=1, img='pixels')
    assert CaptionedBytes().get_data_info(2)['img_path'] == 'photos.tar/2.jpg'
    with pytest.raises(UnreadableImageError, match=f'  a: FileNotFoundError.*{tmp_path}/a.png'):
        Files(pipeline=[dict(type='LoadRGBImage')], max_refetch=0)[0]


def test_what_is_left_to_define():
    with pytest.raises(NotImplementedError, match=r'SampleSource must define sample\(index\)'):
        SampleSource()[0]
    with pytest.raises(NotImplementedError, match='must define __len__'):
        len(SampleSource())
