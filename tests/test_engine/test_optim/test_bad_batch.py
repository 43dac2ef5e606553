"""When no step can be made any more, the error and a file say of what."""

import math
import re

import pytest
import torch
from exact_runs import Watch, build
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement
from mmpretrain.structures import DataSample

from mvp_mm.engine.optim import bad_batch
from mvp_mm.engine.optim.bad_batch import sample_names


class Spoil(Hook):
    """From an iteration on there is a NaN among the inputs."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        names = [DataSample(metainfo=dict(img_path=f'{runner.iter}-{i}.jpg')) for i in range(2)]
        data_batch['data_samples'] = names
        if runner.iter >= 3:
            data_batch['inputs'][0, 0] = math.nan


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A run whose numbers go bad in the fourth iteration, with three steps skipped; its error."""
    monkeypatch.setattr('exact_runs.Model.forward', forward)
    runner = build(tmp_path, Watch(), hooks=[Spoil()])
    runner.optim_wrapper['max_skipped_steps'] = 3
    with pytest.raises(FloatingPointError) as error:
        runner.train()
    return runner, str(error.value)


def forward(self, inputs, mode, data_samples=None):
    """The loss of the layers alone."""
    return dict(loss=self.layers(inputs).square().mean())


def test_the_error_and_the_file(broken, tmp_path):
    runner, error = broken
    assert re.match(r'Iteration 6: .* 3 in all; learning rate 0\.0\d+\)', error)
    assert 'The samples of the last step: 5-0.jpg, 5-1.jpg.' in error
    path = tmp_path / 'bad_batch_iter_6_rank_0.pth'
    assert error.endswith(f'The last batch, and the weights, are in {path}.')
    kept = torch.load(path, weights_only=True)
    assert kept['iteration'] == 6 and kept['samples'] == ['5-0.jpg', '5-1.jpg']
    assert kept['batch']['inputs'].isnan().sum() == 1
    assert kept['batch']['data_samples'][1] == dict(img_path='5-1.jpg')
    for name, value in runner.model.state_dict().items():
        assert torch.equal(kept['state_dict'][name].nan_to_num(), value.cpu().nan_to_num()), name
    assert list(tmp_path.glob('.*.partial')) == []


def test_a_full_disk(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)

    class Run:
        work_dir, iter, model = str(tmp_path), 4, torch.nn.Linear(1, 1)

    told = bad_batch.keep_bad_batch(Run(), [torch.zeros(1)], [str(i) for i in range(10)], 'why')
    assert told.startswith('The samples of the last step: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more.')
    assert told.endswith('could not be saved ([Errno 28] No space left on device).')
    assert list(tmp_path.iterdir()) == []


def test_names_of_samples():
    samples = [DataSample(metainfo=dict(sample_idx=3)), BaseDataElement(), 'else']
    assert sample_names(dict(data_samples=samples)) == ['3', 'without a name']
    assert sample_names([1, 2]) == sample_names(dict(inputs=1)) == []


class OnGpu(torch.Tensor):
    """Stands for a tensor of a GPU: ``cpu`` gives another one."""

    def cpu(self):
        return self.as_subclass(torch.Tensor).clone()


def test_everything_is_saved_from_the_cpu(tmp_path):
    there = torch.arange(3.0).as_subclass(OnGpu)
    sample = DataSample().set_gt_label(1)
    sample.set_data(dict(score=there))

    class Run:
        work_dir, iter, model = str(tmp_path), 4, torch.nn.Linear(1, 1)

    Run.model.state_dict = lambda: dict(weight=there)
    bad_batch.keep_bad_batch(Run(), dict(inputs=[there], data_samples=[sample]), [], 'why')
    kept = torch.load(tmp_path / 'bad_batch_iter_5_rank_0.pth', weights_only=True)
    batch = kept['batch']
    for value in (kept['state_dict']['weight'], batch['inputs'][0], batch['data_samples'][0]['score']):
        assert type(value) is torch.Tensor and value.tolist() == [0, 1, 2]
