import numpy as np
import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from mvp_mm.datasets import EpochSampler, FewShot, LabelledImages, SampleIndex, SampleSource, SceneImages
from mvp_mm.datasets.sources import few_shot
from mvp_mm.datasets.transforms.decode_image import UnreadableImageError

from ...conftest import write_images


class Numbers(SampleSource):
    """Sample i has label i modulo 5 and a draw."""

    def __init__(self, count=40, classes=5):
        super().__init__([self._drawn], dict(classes=[f'class {label}' for label in range(classes)]))
        self.count = count

    def __len__(self):
        return self.count

    def sample(self, index):
        return str(index), None, dict(img=index, gt_label=index % 5)

    @staticmethod
    def _drawn(info):
        return dict(index=info['sample_idx'], label=info['gt_label'], draw=np.random.rand())


def test_k_samples_of_each_class_by_the_seed_alone():
    first, again, other = (FewShot(Numbers(), 3, seed) for seed in (1, 1, 2))
    assert len(first) == 15 and first.indices == again.indices != other.indices
    labels = [first[number]['label'] for number in range(15)]
    assert labels == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3 and len(set(first.indices)) == 15
    # each class by (seed, label): written out for label 2
    found = np.random.default_rng((1, 2)).permutation(np.arange(2, 40, 5))[:3]
    assert first.indices[6:9] == found.tolist()


def test_subsets_draw_the_same_of_their_classes():
    whole, base, new = (FewShot(Numbers(), 3, 1, classes) for classes in ('all', 'base', 'new'))
    assert base.indices + new.indices == whole.indices and len(base) == 9
    assert base.metainfo['classes'] == whole.metainfo['classes'] and len(whole.metainfo['classes']) == 5
    assert [new.get_cat_ids(number) for number in (0, 5)] == [[3], [4]]
    assert len(FewShot(Numbers(), None, classes='new')) == 16


@pytest.mark.parametrize('workers', [0, 2])
def test_draws_do_not_depend_on_workers(workers):
    dataset = FewShot(Numbers(), 3, 1)
    loader = DataLoader(dataset, 5, sampler=EpochSampler(dataset, 5, seed=7), num_workers=workers)
    found = {
        int(i): float(draw) for batch in loader for i, draw in zip(batch['index'], batch['draw'], strict=True)
    }
    numbers = Numbers()
    expected = {index: numbers[SampleIndex(index, 0, 7)]['draw'] for index in dataset.indices}
    assert found == pytest.approx(expected)


def test_ranks_share_the_draw(monkeypatch):
    dataset, found = FewShot(Numbers(), 3, 1), []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        found += [dataset[index]['index'] for index in DefaultSampler(dataset, seed=0, round_up=False)]
    assert sorted(found) == sorted(dataset.indices)


def test_folders_of_images(tmp_path):
    for number, name in enumerate(('ant', 'bee', 'cat')):
        write_images(tmp_path / 'train' / name, 2 + number, seed=number)
    dataset = dict(type='LabelledImages', data_root=str(tmp_path), split='train', _scope_='mmpretrain')
    few = FewShot(dataset, 3)
    assert isinstance(few.dataset, LabelledImages)
    assert [few.get_data_info(number)['gt_label'] for number in range(8)] == [0, 0, 1, 1, 1, 2, 2, 2]


def test_a_sample_that_cannot_be_read(tmp_path):
    """Its replacement would be one beyond the K, or of a class that is not among the chosen."""
    for name in 'ab':
        write_images(tmp_path / name, 3)
    for file in (tmp_path / 'a').iterdir():
        file.write_text('no image')
    options = dict(class_folders=True, pipeline=[dict(type='mvp_mm.LoadImageFromFile')])
    dataset = dict(type='ImageTextList', data_root=str(tmp_path), **options)
    with pytest.raises(UnreadableImageError):
        FewShot(dataset, 1, classes='base')[0]


def test_scenes_are_labelled_without_rendering(monkeypatch):
    monkeypatch.setattr(
        'mvp_mm.datasets.scenes.collection.SceneCollection._render', lambda *_: pytest.fail('rendered')
    )
    dataset = SceneImages(200, label='shape_colour')
    few = FewShot(dataset, 1, classes='base')
    names, scenes = dataset.metainfo['classes'], dataset.collection
    assert len(names) == 64 and (names[0], names[1], names[8]) == (
        'red circle',
        'orange circle',
        'red square',
    )
    for number in range(len(few)):
        caption = scenes.scene(few.indices[number])
        main = max(caption.objects, key=lambda item: item.radius * bool(item.label))
        (label,) = few.get_cat_ids(number)
        assert label < 32 and names[label] == f'{main.colour} {main.shape}'


def test_bad_input():
    with pytest.raises(ValueError, match='shots=0: expected 1 or more'):
        FewShot(Numbers(), 0)
    with pytest.raises(ValueError, match="classes='old' is none of"):
        FewShot(Numbers(), 1, classes='old')
    with pytest.raises(ValueError, match='SceneImages has no classes'):
        FewShot(SceneImages(3), 1)
    with pytest.raises(ValueError, match='no sample of the new classes'):
        FewShot(Numbers(count=3), 1, classes='new')


def test_classes_with_fewer_samples(monkeypatch):
    told = []
    monkeypatch.setattr(few_shot, 'print_log', lambda message, *_, **options: told.append(message))
    assert FewShot(Numbers(count=6), 2).indices[2:] == [1, 2, 3, 4]
    assert told == [
        'Fewer than 2 samples, all of them used, of: class 1 (1), class 2 (1), class 3 (1) and 1 more'
    ]
