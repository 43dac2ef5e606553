"""Do one job of the experiment. Run as a process of its own by :func:`.run_jobs`."""

import argparse
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmpretrain.registry import MODELS
from torch import nn

from mvp_mm import engine

from ..jobs import CONFIGS, do_job, figures_of, last_checkpoint, runner_of
from ..linear_probe import class_and_mean
from ..recipes import TUNING, Recipe, recipe_of, recipe_options, segmentation_length
from .plan import BUDGETS, CLIP, PRETRAININGS, TUNING_SEED, Budget, Job
from .probe import probe_scores
from .watch import Enough, StopAfter, evaluators


def do(job: Job, length: Budget, out: Path, options: dict | None = None) -> dict:
    """Do a job, or go on with it, and return its figures.

    Args:
        job: The job; what it needs is done and lies in ``out``.
        length: Numbers of scenes, epochs and steps.
        out: Folder of the experiment.
        options: Further config options of trainings, for tests.

    Returns:
        ``seconds`` and the figures of its kind: cosines, accuracies or mIoU.
    """
    work = {
        'pretrain': _pretrain,
        'segment': _segment,
        'probe': _probe,
        'probe-teacher': _probe_teacher,
        'watch': _watch,
    }[job.kind]
    start = time.perf_counter()
    figures = work(job, length, out, options or {})
    return dict(figures, seconds=round(time.perf_counter() - start, 1))


def _pretrain(job: Job, length: Budget, out: Path, options: dict) -> dict:
    guidance = PRETRAININGS[job.guidance]
    epochs = _epochs(job, length)
    runner = runner_of(
        guidance.config,
        out / 'work' / job.name,
        {
            'randomness.seed': job.seed,
            'train_dataloader.dataset.count': length.scenes,
            'train_dataloader.dataset.cache_dir': str(out / 'scenes'),
            'train_cfg.max_epochs': epochs,
            'param_scheduler.1.end': epochs,
            # of every tenth
            'default_hooks.checkpoint.by_epoch': False,
            'default_hooks.checkpoint.interval': _tenth(job, length),
            'default_hooks.checkpoint.max_keep_ckpts': -1,
            # names are asked for by the job that watches
            **({'evaluators': []} if guidance.has_text else {}),
            **guidance.options,
            **options,
        },
        resume=True,
    )
    if length.share < 1:
        runner.register_hook(StopAfter(round(length.share * 10) * _tenth(job, length)), 'LOWEST')
    with suppress(Enough):
        runner.train()
    figures = runner.test() if runner.cfg.get('test_evaluator') and length.share == 1 else {}
    return dict(figures, checkpoint=last_checkpoint(out, job.name))


def _tenth(job: Job, length: Budget) -> int:
    """Iterations of a tenth of a pre-training."""
    return max(1, length.scenes // PRETRAININGS[job.guidance].batch * _epochs(job, length) // 10)


def _epochs(job: Job, length: Budget) -> int:
    return max(1, round(length.epochs * PRETRAININGS[job.guidance].epochs_factor))


def _watch(job: Job, length: Budget, out: Path, options: dict) -> dict:
    """Figures after some tenths of a pre-training, ``{tenth: figures}``; a random student's after none."""
    guidance = PRETRAININGS[job.guidance]
    cfg = engine.load_config(str(CONFIGS / (guidance.config or CLIP)))
    speaker = 'student' if guidance.has_text else 'both' if guidance.config in ('', CLIP) else None
    masked = cfg.val_dataloader.to_dict() if guidance.has_targets else None
    looked_at = evaluators(masked, speaker, str(out / 'scenes'))
    chosen = {
        'randomness.seed': job.seed,
        'train_dataloader.dataset.count': guidance.batch,
        'val_evaluator': None,
        'evaluators': looked_at,
    }
    work_dir = out / 'work' / job.name
    runner = runner_of(guidance.config or CLIP, work_dir, chosen | guidance.options | options)
    if not guidance.config:
        return {'0': runner.val()}
    folder = Path(_student_checkpoint(job, out) or '').parent
    found = {}
    for tenth in length.watched:
        runner.load_checkpoint(str(folder / f'iter_{tenth * _tenth(job, length)}.pth'))
        found[str(tenth)] = runner.val()
    return found


def _segment(job: Job, length: Budget, out: Path, options: dict) -> dict:
    tuning = job.name.startswith(TUNING)
    recipe = recipe_of(job, out, 'miou')
    chosen = {
        'randomness.seed': job.seed,
        'train_dataloader.dataset.count': job.labels,
        # every seed has labelled scenes of its own
        'train_dataloader.dataset.scene_seed': TUNING_SEED if tuning else job.seed,
        'train_dataloader.dataset.cache_dir': str(out / 'scenes'),
        **recipe_options(recipe),
        **segmentation_length(length.steps),
        **{f'model.backbone.{key}': value for key, value in PRETRAININGS[job.guidance].backbone.items()},
    }
    if 'arch' in PRETRAININGS[job.guidance].backbone:
        width = PRETRAININGS[job.guidance].backbone['arch']['embed_dims']
        chosen |= {
            'model.neck.embed_dim': width,
            'model.decode_head.in_channels': [width] * 4,
            'model.auxiliary_head.in_channels': width,
        }
    if job.frozen:
        chosen['model.backbone.frozen_stages'] = 4
    checkpoint = _student_checkpoint(job, out)
    if checkpoint is None:
        chosen['model.backbone.init_cfg'] = None
    else:
        chosen['model.backbone.init_cfg.checkpoint'] = checkpoint
    config = f'upernet/{PRETRAININGS[job.guidance].student}_scenes.py'
    runner = runner_of(config, out / 'work' / job.name, chosen | options, resume=True)
    runner.train()
    if tuning:  # on validation scenes
        return dict(miou=float(runner.message_hub.get_scalar('val/mIoU').current()), **asdict(recipe))
    return dict(miou=float(runner.test()['mIoU']), **asdict(recipe))


def _probe(job: Job, length: Budget, out: Path, options: dict) -> dict:
    student = _student(job, out)
    return probe_scores(lambda images: class_and_mean(student(images)[-1]))


def _student(job: Job, out: Path) -> nn.Module:
    guidance = PRETRAININGS[job.guidance]
    torch.manual_seed(job.seed)
    cfg = engine.load_config(str(CONFIGS / 'mvp' / f'{guidance.student}_scenes.py'))
    init_default_scope('mmpretrain')
    settings = dict(cfg.model.backbone, with_mask_token=False)
    if 'use_shared_rel_pos_bias' in settings:
        settings |= dict(use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
    settings |= guidance.backbone
    if 'arch' in guidance.backbone:
        settings['arch'] = dict(cfg.model.backbone.arch, **guidance.backbone['arch'])
    checkpoint = _student_checkpoint(job, out)
    settings['init_cfg'] = None
    if checkpoint is not None:
        settings['init_cfg'] = dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
    student = MODELS.build(settings)
    student.init_weights()
    return student.eval()


def _probe_teacher(job: Job, length: Budget, out: Path, options: dict) -> dict:
    cfg = engine.load_config(str(CONFIGS / PRETRAININGS[job.guidance].config))
    init_default_scope('mmpretrain')
    teacher = MODELS.build(cfg.model.target_generator)
    return probe_scores(lambda images: class_and_mean(teacher(images)))


def _student_checkpoint(job: Job, out: Path) -> str | None:
    if not PRETRAININGS[job.guidance].config:
        return PRETRAININGS[job.guidance].start or None
    return str(out / figures_of(out, f'pretrain-{job.guidance}-s{job.seed}')['checkpoint'])


def _do_of_command_line(fields: dict, args: argparse.Namespace) -> dict:
    fields['recipe'] = fields['recipe'] and Recipe(**fields['recipe'])
    return do(Job(**fields), BUDGETS[args.length], args.out)


if __name__ == '__main__':
    do_job(__doc__, _do_of_command_line)
