"""Run by torchrun in two processes: print the running statistics with which each of them validates."""

import sys

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mvp_mm.engine import MVPRunner


class Numbers(Dataset):
    """As many numbers as both processes train on, so that each sees others."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.full((3,), float(index)))


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, inputs, mode):
        outputs = self.norm(inputs)
        return dict(loss=outputs.square().mean()) if mode == 'loss' else [dict(output=outputs)]


class Nothing(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return {}


class Report(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.show('trained', runner)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        self.show('validated', runner)

    @staticmethod
    def show(what, runner):
        norm = runner.model.module.norm
        values = [norm.running_mean[0].item(), norm.running_var[0].item(), norm.num_batches_tracked.item()]
        print(f'RESULT {what} rank={runner.rank} iter={runner.iter} {values}', flush=True)


loader = dict(
    dataset=Numbers(),
    batch_size=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
MVPRunner(
    Model(),
    work_dir=sys.argv[1],
    train_dataloader=loader,
    val_dataloader=loader,
    val_evaluator=Evaluator(Nothing()),
    val_cfg={},
    train_cfg=dict(by_epoch=False, max_iters=2, val_interval=1),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    custom_hooks=[Report()],
    launcher='pytorch',
    log_level='WARNING',
).train()
