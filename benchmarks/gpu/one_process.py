"""Stage 14: NCCL and FSDP with one process give the losses of a plain run."""

import os
import sys
import time
from pathlib import Path

from faults.kills import free_port
from faults.tiny_run import write_photographs
from faults.training_process import TOOLS, TrainingProcess
from mmengine.config import Config

from mvp_mm.engine import load_config

from .report import Report
from .trainings import CONFIGS, begin_training, logged

IMAGES, BATCH = 64, 4
BF16 = '_bf16'  # ends the names of runs with compiled blocks and the kernels that float32 does not use


def run(report: Report, scale: str) -> None:
    """Train 16 iterations at debug size: plainly, by DDP, by FSDP, and the first two in bf16 as well."""
    write_photographs(report.scratch / 'images', IMAGES)
    ways = {'plain': 'vitb16_in1k', 'ddp': 'vitb16_in1k', 'fsdp': 'vith16_in1k_fsdp'}
    ways |= {f'plain{BF16}': ways['plain'], f'ddp{BF16}': ways['ddp']}
    losses = {}
    for way, name in ways.items():
        path, work_dir = report.scratch / f'{way}.py', report.scratch / way
        cfg = debug_config(name, report.scratch / 'images')
        if way.endswith(BF16):
            use_kernels_of_bf16(cfg)
        cfg.dump(path)
        arguments = [str(path), '--no-auto-batch', '--work-dir', str(work_dir)]
        start = time.monotonic()
        try:
            _train(report, way.removesuffix(BF16), arguments)
        except RuntimeError as error:
            report.add(f'{way}: failed', str(error)[-500:], '', 'it runs', False)
            continue
        losses[way] = logged(work_dir, 'loss')
        report.add(f'{way}: it took', time.monotonic() - start, 's')
    for way, plain, tolerance in (
        ('ddp', 'plain', 1e-5),
        ('fsdp', 'plain', 1e-5),
        (f'ddp{BF16}', f'plain{BF16}', 1e-3),
    ):
        if way in losses and plain in losses:
            pairs = list(zip(losses[way], losses[plain], strict=True))
            report.add(f'{way}: losses', len(pairs))
            apart = max(abs(ours - theirs) for ours, theirs in pairs)
            report.at_most(f'{way}: largest difference of a loss', apart, tolerance)


def _train(report: Report, way: str, arguments: list[str]) -> None:
    if way == 'plain':
        begin_training(report, arguments).wait(600)
        return
    distributed = [*arguments, '--launcher', 'pytorch']
    if way == 'ddp':
        command = [sys.executable, str(TOOLS / 'torchrun.py'), '--nproc-per-node=1']
        command += [f'--master-port={free_port()}', str(TOOLS / 'train.py'), *distributed]
        # without the compiler's workers, for whose beginning Python would wait minutes at its end
        environment = dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS='1')
        TrainingProcess(lambda: os.execve(command[0], command, environment), report.log).wait(600)
        return
    names = dict(RANK='0', LOCAL_RANK='0', WORLD_SIZE='1', LOCAL_WORLD_SIZE='1', MASTER_ADDR='127.0.0.1')
    begin_training(report, distributed, dict(names, MASTER_PORT=str(free_port()))).wait(600)


def debug_config(name: str, images: Path) -> Config:
    """A config of ``configs/mvp`` at the size of ``vittiny_debug``, in float32, with all of its own."""
    debug = load_config(str(CONFIGS / 'mvp' / 'vittiny_debug.py'))
    cfg = load_config(str(CONFIGS / 'mvp' / f'{name}.py'))
    cfg.model.backbone.arch = dict(debug.model.backbone.arch, num_layers=2)
    cfg.model.backbone.update(img_size=64, patch_size=8, drop_path_rate=0.0)
    cfg.model.backbone.layer_scale_init_value = 0.1
    cfg.model.neck, cfg.model.target_generator = debug.model.neck, debug.model.target_generator
    cfg.train_dataloader.update(batch_size=BATCH, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.sampler.total_batch = BATCH
    cfg.train_dataloader.dataset.update(
        data_root=str(images), pipeline=debug.train_dataloader.dataset.pipeline
    )
    cfg.test_dataloader = debug.test_dataloader  # nothing is tested, but its masks have to fit the student
    cfg.optim_wrapper.update(precision='float32', accumulative_counts=1)
    cfg.auto_scale_lr = None
    cfg.param_scheduler = None
    cfg.train_cfg.max_epochs = 1
    cfg.default_hooks.logger.interval = 1
    cfg.log_processor.window_size = 1
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.work_dir = None  # the command line's
    return cfg


def use_kernels_of_bf16(cfg: Config) -> None:
    """Train in bf16, with blocks of more than the 1 MiB at which DDP's first bucket would cut them."""
    arch = dict(embed_dims=192, num_layers=2, num_heads=3, feedforward_channels=768)
    cfg.model.backbone.arch = dict(cfg.model.backbone.arch, **arch)
    cfg.model.neck = dict(cfg.model.neck, in_channels=arch['embed_dims'])
    cfg.optim_wrapper.precision = 'bfloat16'
