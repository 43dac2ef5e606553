"""Two processes train on different numbers, and validate with the first one's statistics."""

import exact_runs
import torch
from exact_runs import Watch, build
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset
from torchrun_jobs import forked


class Numbers(Dataset):
    metainfo: dict = {}

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return dict(inputs=torch.full((3,), float(index)))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, inputs, mode):
        outputs = self.norm(inputs)
        return dict(loss=outputs.square().mean()) if mode == 'loss' else [dict(output=outputs)]


class Record(Hook):
    """Notes the running statistics after training iterations and in validations."""

    def __init__(self):
        self.trained, self.validated = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.trained.append(self.statistics(runner))

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.validated.append(self.statistics(runner))

    @staticmethod
    def statistics(runner):
        norm = runner.model.module.norm
        return [norm.running_mean[0].item(), norm.running_var[0].item(), norm.num_batches_tracked.item()]


def statistics(folder):
    exact_runs.Numbers, exact_runs.Model = Numbers, Model
    record = Record()
    more = dict(launcher='pytorch', validate=True, by_epoch=False, size=8, iters=2)
    runner = build(folder, Watch(), hooks=[record], sampler='DefaultSampler', **more)
    runner._train_loop['val_interval'] = 1
    runner.train()
    return record.trained, record.validated


def test_two_processes_validate_one_model(tmp_path):
    (trained, validated), (trained_beside, validated_beside) = forked(statistics, tmp_path)
    assert validated == validated_beside == trained and len(trained) == 2
    assert all(mine != other for mine, other in zip(trained, trained_beside, strict=True))
