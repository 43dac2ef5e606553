"""Small runs that are stopped and resumed."""

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from mvp_mm.datasets.samplers.sample_index import sample_entropy, seeded_draws
from mvp_mm.engine import MVPRunner, StopOnSignalHook


class Killed(Exception):
    """Ends a run where it stands."""


class Numbers(Dataset):
    """Samples with draws of all three generators."""

    metainfo: dict = {}

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        with seeded_draws(*sample_entropy(index)):
            draws = torch.tensor([torch.rand(()).item(), np.random.rand(), random.random()])
        return dict(inputs=draws + int(index) / self.size)


class Model(BaseModel):
    """Draws from all three generators of the process too, as drop path and batch mixing do."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1)
        )

    def forward(self, inputs, mode):
        if mode != 'loss':
            return [dict(output=inputs.mean() + np.random.rand())]  # a validation that draws
        mixed = inputs * np.random.uniform(0.5, 1.5) + random.gauss(0, 0.1)
        return dict(loss=(self.layers(mixed) - inputs.sum(1, keepdim=True)).square().mean())


class Light(MVPRunner):
    """Without the report on the machine, which takes longer than the training."""

    def _log_env(self, env_cfg):
        pass


class Watch(Hook):
    """Notes the losses, with the position in the epoch, and kills the run."""

    priority = 'LOWEST'  # after the checkpoint is written

    def __init__(self, kill_after=None, in_validation=None):
        self.kill_after = kill_after
        self.in_validation = in_validation
        self.losses = []
        self.validated = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append((runner.iter, batch_idx, outputs['loss'].item()))
        if runner.iter + 1 == self.kill_after:
            raise Killed

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.in_validation:
            raise Killed

    def after_val_epoch(self, runner, metrics=None):
        self.validated.append(runner.iter)


def build(
    folder,
    watch,
    by_epoch=True,
    workers=0,
    accumulation=1,
    interval=1,
    saved_by_epoch=None,
    sampler='EpochSampler',
    size=24,
    batch=4,
    seed=3,
    validate=False,
    resume=False,
    epochs=2,
    iters=12,
    optimizer=None,
    schedule=None,
    hooks=(),
    **more,
):
    """A run of two epochs, or of as many iterations."""
    loader = dict(
        dataset=Numbers(size),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dict(type='default_collate'),
    )
    train = dict(by_epoch=True, max_epochs=epochs) if by_epoch else dict(by_epoch=False, max_iters=iters)
    if validate:
        train.update(val_interval=1 if by_epoch else 3)
        sampled = dict(loader, sampler=dict(type='DefaultSampler', shuffle=False), num_workers=0)
        del sampled['persistent_workers']
        more |= dict(val_dataloader=sampled, val_cfg={}, val_evaluator=Nothing())
    torch.manual_seed(0)  # all runs begin with the same weights
    saved_by_epoch = by_epoch if saved_by_epoch is None else saved_by_epoch
    return Light(
        model=Model(),
        work_dir=str(folder),
        train_dataloader=dict(loader, sampler=dict(type=sampler)),
        train_cfg=train,
        optim_wrapper=dict(
            type='MVPOptimWrapper',
            optimizer=optimizer or dict(type='AdamW', lr=0.05),
            accumulative_counts=accumulation,
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=schedule
        or [
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=4, end=12),
        ],
        default_hooks=dict(
            checkpoint=dict(type='CheckpointHook', interval=interval, by_epoch=saved_by_epoch),
            logger=dict(type='LoggerHook', interval=1),
            sampler_seed=dict(type='DistSamplerSeedHook'),
        ),
        custom_hooks=[watch, *hooks],
        visualizer=dict(type='Visualizer', vis_backends=[]),
        randomness=dict(seed=seed),
        resume=resume,
        log_level='WARNING',
        **more,
    )


def Nothing():  # noqa: N802 (in the place of a class that needs the folder of MMEngine's evaluator)
    """An evaluator of one number."""
    from mmengine.evaluator import BaseMetric, Evaluator

    class Zero(BaseMetric):
        def process(self, data_batch, data_samples):
            self.results.append(0)

        def compute_metrics(self, results):
            return dict(zero=0)

    return Evaluator(Zero())


def finish(runner, watch):
    """Train to the end: losses by iteration and place in the epoch, and the state."""
    runner.train()
    model = runner.model.module if hasattr(runner.model, 'module') else runner.model
    return watch.losses, {name: value.clone() for name, value in model.state_dict().items()}


def processes_of_a_job(folder):
    """Whole, stopped and resumed run in each of two processes, then runs of which one is told to stop."""
    more = dict(launcher='pytorch', size=48, saved_by_epoch=False, interval=4)
    watch = Watch()
    losses, state = finish(build(folder / 'whole', watch, **more), watch)
    with suppress(Killed):
        build(folder / 'cut', Watch(kill_after=5), **more).train()
    watch = Watch()
    rest, state_after = finish(build(folder / 'cut', watch, resume=True, **more), watch)
    rank = torch.distributed.get_rank()
    # a checkpoint holds the first process's running statistics, and all validate with these
    names = [name for name in state if rank == 0 or 'running' not in name]
    found = dict(
        losses=rest == losses[4:],
        number=len(rest),
        weights=all(torch.equal(state[name], state_after[name]) for name in names),
    )
    # one of the two is told to stop, in the last step too
    for name, after in (('early', 3), ('late', 12)):
        found[name] = stopped(folder / name, after, os.getpid() if rank == 1 else None, **more)
    return found, losses[0][2]


def stopped(folder, after, victim, **more):
    """A run in which a process gets SIGTERM after so many iterations: exit status and last checkpoint."""
    stop = StopOnSignalHook()
    hooks = [Signal(stop, after=after, victim=victim), stop]
    try:
        build(folder, Watch(), hooks=hooks, **more).train()
    except SystemExit as error:
        return error.code, Path((folder / 'last_checkpoint').read_text()).name


class Signal(Hook):
    """Sends a signal after so many iterations, and waits until it has come."""

    priority = 'NORMAL'

    def __init__(self, stop, after, victim, number=signal.SIGTERM):
        self.stop = stop
        self.after = after
        self.victim = victim
        self.number = number

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after and self.victim:
            os.kill(self.victim, self.number)
            while not self.stop._received:
                time.sleep(0.01)
