import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from toy_runs import Score, Toy

from mvp_mm.engine import MVPRunner


@pytest.fixture
def lines(monkeypatch):
    """What is logged: (level, text)."""
    kept = []
    monkeypatch.setattr(
        MMLogger, 'callHandlers', lambda self, record: kept.append((record.levelno, record.getMessage()))
    )
    return kept


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Build the runner of a toy training, without the report on the machine, which takes longest."""
    monkeypatch.setattr(Runner, '_log_env', lambda self, env_cfg: None)
    number = iter(range(1000))

    def build(epochs=3, cls=MVPRunner, scores=None, hook=None, keep=2, retry_interval=None, **more):
        torch.manual_seed(0)
        data = [dict(x=row) for row in torch.randn(8, 2)]
        loader = dict(dataset=data, batch_size=4, num_workers=0, collate_fn=dict(type='default_collate'))
        checkpoint = dict(type='CheckpointHook', interval=1, max_keep_ckpts=keep)
        if retry_interval:
            checkpoint.update(retry_interval=retry_interval)
        if scores:
            checkpoint.update(save_best='score', rule='greater')
            sampler = dict(type='DefaultSampler', shuffle=False)
            more |= dict(
                val_dataloader=dict(loader, sampler=sampler), val_cfg={}, val_evaluator=Score(scores)
            )
        loader['sampler'] = dict(type='DefaultSampler', shuffle=True)
        return cls(
            model=Toy(),
            work_dir=str(tmp_path),
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=[dict(type='MultiStepLR', milestones=[2]), dict(type='LinearLR', by_epoch=False)],
            default_hooks=dict(checkpoint=checkpoint, logger=dict(type='LoggerHook', interval=1)),
            custom_hooks=[hook] if hook else None,
            randomness=dict(seed=1),
            experiment_name=f'{tmp_path.name}-{next(number)}',
            **more,
        )

    return build
