"""The config that shards its student by FSDP trains as DDP does."""

import json
from pathlib import Path

import pytest
import torch
from faults.tiny_run import write_photographs
from mmengine.hooks import Hook
from torchrun_jobs import forked

from mvp_mm.engine import build_runner, load_config

ROOT = Path(__file__).parents[2]


class Note(Hook):
    """Losses and gradient norms, and what the evaluators report."""

    def __init__(self):
        self.values, self.metrics = [], {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        history = runner.message_hub.log_scalars.get('train/grad_norm')
        norm = history.current() if history else 0.0
        self.values.append((outputs['loss'].item(), float(norm)))

    def after_val_epoch(self, runner, metrics=None):
        self.metrics = dict(metrics)


def evaluators(folder, pipeline):
    """Some call the model, some its student or its text tower, on five batches: rank 1 has one less."""
    loader = dict(batch_size=5, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    images, crop = dict(data_root=str(folder / 'labelled'), split='val'), pipeline[:-2]
    masked = dict(type='UnlabelledImages', fixed_draws=True, pipeline=pipeline, **images)
    labelled = dict(type='LabelledImages', pipeline=[*crop, dict(type='PackInputs')], **images)
    masked = dict(loader, dataset=masked, collate_fn=dict(type='default_collate'))
    labelled = dict(loader, dataset=labelled, collate_fn=dict(type='pseudo_collate'))
    return [
        dict(type='TargetCosine', dataloader=masked),
        dict(type='KNN', dataloader=labelled, train_dataloader=labelled, ks=[3]),
        dict(type='ZeroShot', dataloader=labelled, classes=['red', 'star', 'blue'], of='both'),
    ]


def config(name, folder):
    """A config of configs/mvp at the size of vittiny_debug, with all of its own that is no size."""
    debug = load_config(str(ROOT / 'configs/mvp/vittiny_debug.py'))
    cfg = load_config(str(ROOT / f'configs/mvp/{name}.py'), str(folder / name), 'pytorch')
    cfg.model.backbone.arch = dict(debug.model.backbone.arch, num_layers=2)
    cfg.model.backbone.update(img_size=64, patch_size=8, drop_path_rate=0.0)
    cfg.model.backbone.layer_scale_init_value = 0.1
    cfg.model.neck, cfg.model.target_generator = debug.model.neck, debug.model.target_generator
    cfg.model.target_generator.model_name = str(folder / 'clip.json')
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.train_dataloader.sampler.total_batch = 16
    cfg.train_dataloader.dataset.update(
        data_root=str(folder / 'images'), pipeline=debug.train_dataloader.dataset.pipeline
    )
    cfg.evaluators = evaluators(folder, debug.test_dataloader.dataset.pipeline)
    cfg.optim_wrapper.update(accumulative_counts=2, clip_grad=dict(max_norm=0.5))
    cfg.optim_wrapper.optimizer.update(lr=0.01, weight_decay=5.0)  # a tenth of the loss, were it not there
    cfg.auto_scale_lr = None
    cfg.param_scheduler = None
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.logger.interval = 1
    cfg.visualizer.vis_backends = []
    cfg.env_cfg.mp_cfg.pop('mp_start_method', None)
    if 'strategy' in cfg:
        cfg.strategy.model_wrapper.device_id = torch.device('cpu')
    return cfg


def trained(folder):
    """A few steps by DDP, then by FSDP: kind of model, losses and norms, parameter groups, metrics."""
    found = []
    for name in ('vitb16_in1k', 'vith16_in1k_fsdp'):
        runner = build_runner(config(name, folder))
        note = Note()
        runner.register_hook(note, 'LOWEST')
        runner.train()
        groups = runner.optim_wrapper.optimizer.param_groups
        decaying = [(len(group['params']), group['weight_decay']) for group in groups]
        found.append((type(runner.model).__name__, note.values, decaying, note.metrics))
    return found


@pytest.mark.slow
def test_two_processes(tmp_path):
    """Losses, norms, groups, metrics and checkpoint, with weight decay, clipping and accumulation."""
    write_photographs(tmp_path / 'images', 64)
    clip = json.loads((ROOT / 'configs/mvp/tiny_clip.json').read_text())
    clip['text_cfg'].update(vocab_size=6, tokenizer_kwargs=dict(words=['red', 'star', 'blue']))
    (tmp_path / 'clip.json').write_text(json.dumps(clip))
    for seed, split in enumerate(('train/a', 'train/b', 'train/c', 'val/a', 'val/b', 'val/c')):
        write_photographs(tmp_path / 'labelled' / split, 7, seed)
    for ddp, fsdp in forked(trained, tmp_path):
        assert (ddp[0], fsdp[0]) == ('MMDistributedDataParallel', 'MMFullyShardedDataParallel')
        losses, sharded = torch.tensor(ddp[1]), torch.tensor(fsdp[1])
        assert len(losses) == len(sharded) == 8
        assert (losses - sharded).abs().max() < 1e-5
        assert (losses[0] - losses[-1]).abs()[0] > 0.1
        assert ddp[2] == fsdp[2]
        assert {name.split('/')[0] for name in ddp[3]} == {'target_cosine', 'knn', 'zero_shot'}
        assert fsdp[3] == pytest.approx(ddp[3], abs=1e-5)
    plain = torch.load(tmp_path / 'vitb16_in1k/epoch_1.pth', weights_only=True)['state_dict']
    saved = torch.load(tmp_path / 'vith16_in1k_fsdp/epoch_1.pth', weights_only=False)['state_dict']
    assert saved.keys() == plain.keys()
    assert max((saved[key] - plain[key]).abs().max().item() for key in plain) < 1e-4
