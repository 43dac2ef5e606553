"""Do one job of the experiment. Run as a process of its own by :func:`.run_jobs`."""

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from torch import Tensor

from mvp_mm import engine
from mvp_mm.engine.checkpoint.teacher_file import save_teacher

from ..jobs import CONFIGS, do_job, figures_of, last_checkpoint, runner_of
from ..linear_probe import (
    Split,
    accuracy,
    best_penalty,
    class_and_mean,
    fit_probe,
    nearest_accuracy,
    normalised,
)
from ..recipes import TUNING, Recipe, recipe_of, recipe_options, segmentation_length
from .plan import BUDGETS, METHODS, MVP, PHOTOGRAPHS, TEACHERS, TUNING_SEED, Budget, Job

SPLIT = '_base_/datasets/tiny_imagenet.py'
FINETUNE = 'finetune/vittiny_photographs.py'
STREETS = 'upernet/vittiny_photographs_camvid.py'
PROBE_SHOTS = 50  # photographs a seen class on which the penalty of the linear probe is chosen
TUNING_SCENES = 300  # of CamVid's training pictures; recipes are compared on the others


def do(job: Job, length: Budget, out: Path, data: str, camvid: str = '', options: dict | None = None) -> dict:
    """Do a job, or go on with it, and return its figures.

    Args:
        job: The job; what it needs is done and lies in ``out``.
        length: Numbers of steps and of loader workers.
        out: Folder of the experiment.
        data: Folder of the shards and ``classes.txt``.
        camvid: Folder of CamVid. Default '': there is none, as segmentations only need it.
        options: Further config options of trainings, for tests.

    Returns:
        ``seconds`` and the figures of its kind.
    """
    start = time.perf_counter()
    figures = _Work(job, length, out, data, camvid, options or {}).do()
    return dict(figures, seconds=round(time.perf_counter() - start, 1))


class _Work:
    """A job with what it is done by."""

    def __init__(self, job: Job, length: Budget, out: Path, data: str, camvid: str, options: dict) -> None:
        self.job, self.length, self.out = job, length, out
        self.data, self.camvid, self.options = data, camvid, options

    def do(self) -> dict:
        """Return the figures of the job."""
        kinds = {
            'teach': self.teach,
            'train': self.train,
            'measure': self.measure,
            'measure-teacher': self.measure_teacher,
            'finetune': self.finetune,
            'segment': self.segment,
        }
        return kinds[self.job.kind]()

    def runner(self, config: str, chosen: dict) -> Runner:
        """The runner of a config with options, which goes on where it was."""
        options = {'randomness.seed': self.job.seed, **chosen, **self.options}
        return runner_of(config, self.out / 'work' / self.job.name, options, resume=True)

    def teach(self) -> dict:
        """Train a teacher and write its weights."""
        config, batch = TEACHERS[self.job.method]
        epochs = epochs_of(self.length.teacher_steps, batch)
        chosen = self.epochs(epochs) | data_options(config, self.data)
        if self.job.method == 'dino':
            chosen['model.frozen_epochs'] = epochs  # as its config, to the end
        runner = self.runner(config, chosen)
        runner.train()
        digest = save_teacher(runner, self.teacher_file(self.job.method))
        return dict(steps=runner.iter, sha256=digest)

    def teacher_file(self, teacher: str) -> Path:
        return self.out / 'teachers' / f'{Path(TEACHERS[teacher][0]).stem}_s{self.job.seed}.safetensors'

    def epochs(self, epochs: int) -> dict:
        """Config options of a training of so many epochs, which is evaluated by its job, not by itself."""
        return {
            'train_dataloader.num_workers': self.length.workers,
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_begin': epochs + 1,
            'param_scheduler.1.end': epochs,
        }

    def train(self) -> dict:
        """Pre-train a student, and evaluate it as its config says."""
        method = METHODS[self.job.method]
        epochs = epochs_of(self.length.steps * method.steps_factor, method.batch)
        chosen = self.epochs(epochs) | data_options(method.config, self.data) | method.options
        if method.teacher:
            chosen['model.target_generator.pretrained'] = str(self.teacher_file(method.teacher))
        runner = self.runner(method.config, chosen)
        runner.train()
        figures = {key: value for key, value in runner.val().items() if isinstance(value, int | float)}
        return dict(figures, steps=runner.iter, checkpoint=last_checkpoint(self.out, self.job.name))

    def checkpoint(self) -> str | None:
        """The student's weights; None from scratch."""
        if not METHODS[self.job.method].config:
            return None
        return str(self.out / figures_of(self.out, f'train-{self.job.method}-s{self.job.seed}')['checkpoint'])

    def backbone_options(self) -> dict:
        """Config options of a model that learns from labels on the student."""
        method, checkpoint = METHODS[self.job.method], self.checkpoint()
        chosen = {f'model.backbone.{key}': value for key, value in method.backbone.items()}
        if checkpoint is None:
            return chosen | {'model.backbone.init_cfg': None}
        return chosen | {'model.backbone.init_cfg.checkpoint': checkpoint}

    def measure(self) -> dict:
        """k-NN and a linear probe of the student on the classes held out."""
        torch.manual_seed(self.job.seed)
        cfg = engine.load_config(str(CONFIGS / MVP))
        init_default_scope('mmpretrain')
        alone = dict(with_mask_token=False, use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
        checkpoint = self.checkpoint()
        init = checkpoint and dict(type='Pretrained', checkpoint=checkpoint, prefix='backbone.')
        backbone = {**cfg.model.backbone, **alone, **METHODS[self.job.method].backbone, 'init_cfg': init}
        student: Any = MODELS.build(backbone)
        student.init_weights()
        student.eval()
        return self.features_figures(lambda images: class_and_mean(student(images)[-1]))

    def measure_teacher(self) -> dict:
        """k-NN and a linear probe of a teacher's targets on the classes held out."""
        config = next(method.config for method in METHODS.values() if method.teacher == self.job.method)
        cfg = engine.load_config(str(CONFIGS / config))
        init_default_scope('mmpretrain')
        settings = dict(cfg.model.target_generator, pretrained=str(self.teacher_file(self.job.method)))
        teacher: Any = MODELS.build(settings)
        teacher.eval()
        return self.features_figures(lambda images: class_and_mean(teacher(images)))

    def features_figures(self, encode: Any) -> dict:
        """Accuracies in percent of frozen features; the probe's penalty is chosen on seen classes."""
        split = Config.fromfile(CONFIGS / SPLIT)

        def features(numbers: Sequence[int], part: str, shots: int | None = None) -> Split:
            dataset = dict(split.knn_held_out.train_dataloader.dataset, split=part, labels=list(numbers))
            dataset |= dict(data_root=self.data, classes=f'{self.data}/classes.txt')
            loader = dict(split.knn_held_out.train_dataloader, num_workers=0)
            loader['dataset'] = dict(type='FewShot', shots=shots, dataset=dataset)
            return features_of(encode, Runner.build_dataloader(loader), numbers)

        seen, held_out = split.seen, split.held_out
        chosen_on = features(seen, 'train', PROBE_SHOTS), features(seen, 'val')
        penalty = best_penalty(*chosen_on, len(seen))
        train, test = features(held_out, 'train'), features(held_out, 'val')
        linear = accuracy(fit_probe(train, len(held_out), penalty), test)
        return dict(knn=nearest_accuracy(train, test), linear=linear, penalty=penalty)

    def finetune(self) -> dict:
        """Fine-tune by a few labels a class: held-out classes, or seen ones for a tuning."""
        job, recipe = self.job, recipe_of(self.job, self.out, 'top1')
        split, tuning = Config.fromfile(CONFIGS / SPLIT), self.job.name.startswith(TUNING)
        classes = split.seen[::4] if tuning else split.held_out  # as many
        batch = 64
        per_epoch = max(1, len(classes) * job.labels // batch)
        epochs = max(2, round(self.length.finetune_steps / per_epoch))  # one at least is warm-up
        chosen = {
            **self.epochs(epochs),
            'param_scheduler.0.end': max(1, epochs // 10),
            'param_scheduler.1.begin': max(1, epochs // 10),
            'default_hooks.checkpoint.interval': epochs,
            'train_dataloader.dataset.shots': job.labels,
            'train_dataloader.dataset.seed': TUNING_SEED if tuning else job.seed,
            **recipe_options(recipe),
            **self.backbone_options(),
        }
        places = dict(train_dataloader='.dataset', val_dataloader='', test_dataloader='')
        for loader, inner in places.items():
            dataset = f'{loader}.dataset{inner}'
            chosen |= {
                f'{dataset}.data_root': self.data,
                f'{dataset}.classes': f'{self.data}/classes.txt',
                f'{dataset}.labels': list(classes),
            }
        runner = self.runner(FINETUNE, chosen)
        runner.train()
        return dict(top1=float(runner.test()['accuracy/top1']), **asdict(recipe))

    def segment(self) -> dict:
        """Segment street scenes by some labelled ones; a tuning sees a part of the training pictures."""
        job, recipe = self.job, recipe_of(self.job, self.out, 'miou')
        tuning = job.name.startswith(TUNING)
        order = random.Random(TUNING_SEED if tuning else job.seed).sample(range(367), 367)
        labelled = order[: min(job.labels, TUNING_SCENES)] if tuning else order[: job.labels]
        chosen = {
            **segmentation_length(self.length.segment_steps),
            'train_cfg.val_begin': self.length.segment_steps + 1,
            'train_dataloader.dataset.indices': sorted(labelled),
            **{f'{part}_dataloader.dataset.data_root': self.camvid for part in ('train', 'val', 'test')},
            **recipe_options(recipe),
            **self.backbone_options(),
        }
        if tuning:
            prefix = dict(img_path='images/train', seg_map_path='annotations/train')
            chosen |= {
                'test_dataloader.dataset.data_prefix': prefix,
                'test_dataloader.dataset.indices': sorted(order[TUNING_SCENES:]),
            }
        if job.frozen:
            chosen['model.backbone.frozen_stages'] = 4
        runner = self.runner(STREETS, chosen)
        runner.train()
        constant = constant_miou(runner.test_dataloader.dataset)
        return dict(miou=float(runner.test()['mIoU']), constant=constant, **asdict(recipe))


def constant_miou(dataset: Any) -> float:
    """The mIoU in percent of the best segmentation that calls every pixel of a dataset the same."""
    classes = len(dataset.metainfo['classes'])
    counts = torch.zeros(classes, dtype=torch.long)
    for number in range(len(dataset)):
        labels = dataset[number]['data_samples'].gt_sem_seg.data
        counts += torch.bincount(labels[labels < classes].long(), minlength=classes)
    return 100 * (counts.max() / counts.sum()).item() / classes


@torch.no_grad()
def features_of(encode: Any, loader: Any, numbers: Sequence[int]) -> Split:
    """Encode all photographs of a loader; labels are places in ``numbers``."""
    places = {number: place for place, number in enumerate(numbers)}
    found: list[Tensor] = []
    labels: list[int] = []
    for batch in loader:
        found.append(encode(normalised(batch['inputs'])).float())
        labels += [places[number] for number in batch['gt_label'].tolist()]
    return torch.cat(found), torch.tensor(labels)


def epochs_of(steps: float, batch: int) -> int:
    """Epochs that make about so many steps."""
    return max(1, round(steps * batch / PHOTOGRAPHS))


def data_options(config: str, data: str) -> dict:
    """Config options by which a config of photographs reads the shards of a folder."""
    cfg = engine.load_config(str(CONFIGS / config))
    loaders = {
        key: cfg[key]
        for key in ('train_dataloader', 'val_dataloader', 'test_dataloader')
        if cfg.get(key) is not None
    }
    for number, evaluator in enumerate(cfg.get('evaluators') or []):
        keys = [key for key in evaluator if key.endswith('dataloader')]
        loaders |= {f'evaluators.{number}.{key}': evaluator[key] for key in keys}
    found = {}
    for key, loader in loaders.items():
        found[f'{key}.dataset.data_root'] = data
        if 'classes' in loader.dataset:
            found[f'{key}.dataset.classes'] = f'{data}/classes.txt'
    return found


def _do_of_command_line(fields: dict, args: argparse.Namespace) -> dict:
    fields['recipe'] = fields['recipe'] and Recipe(**fields['recipe'])
    return do(Job(**fields), BUDGETS[args.length], args.out, *args.more)


if __name__ == '__main__':
    do_job(__doc__, _do_of_command_line)
