"""Run by torchrun in two processes, each with half of every batch: write what each finds."""

import copy
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmpretrain.registry import MODELS
from test_models.test_mvp.test_multi_teacher_mvp import PIXELS, STUDENT
from test_models.test_mvp.test_standardiser import batches

import mvp_mm  # noqa: F401
from mvp_mm.models.mvp.standardiser import Standardiser


def statistics(rank: int, method: str) -> dict:
    """The state of a standardiser after two half batches."""
    standardiser = Standardiser(4, method, 2)
    for targets in batches(2, size=6):
        standardiser(targets[rank * 3 : rank * 3 + 3], 1)
    return {name: value.tolist() for name, value in standardiser.state_dict().items()}


def two_teachers() -> torch.nn.Module:
    """A model of which one teacher is often left out."""
    torch.manual_seed(0)
    neck = dict(type='MVPNecks', in_channels=48, out_channels=dict(a=192, b=192), batches=3)
    teachers = dict(type='TargetGenerators', teachers=dict(a=PIXELS, b=PIXELS), drop=0.4)
    student = dict(STUDENT, drop_path_rate=0.0)
    return MODELS.build(
        copy.deepcopy(dict(type='MultiTeacherMVP', backbone=student, neck=neck, target_generator=teachers))
    )


def trained(model: torch.nn.Module, part: slice) -> dict[str, torch.Tensor]:
    """Parameters and statistics after five steps; plain gradient descent, which hides no factor."""
    optimizer, generator = torch.optim.SGD(model.parameters(), lr=0.1), torch.Generator().manual_seed(0)
    for _ in range(5):
        images = torch.randn(4, 3, 32, 32, generator=generator)
        mask = torch.zeros(4, 4, 4, dtype=torch.bool)
        mask[:, 0] = True
        optimizer.zero_grad()
        model(images[part], mask=mask[part], mode='loss')['loss'].backward()
        optimizer.step()
    return getattr(model, 'module', model).state_dict()


def main() -> None:
    rank = int(os.environ['RANK'])
    joined = trained(two_teachers().train(), slice(None))  # before the processes know of one another
    dist.init_process_group('gloo')
    found: dict = {method: statistics(rank, method) for method in ('dimensions', 'phi-s')}
    parallel = MMDistributedDataParallel(two_teachers(), find_unused_parameters=False).train()
    own = trained(parallel, slice(rank * 2, rank * 2 + 2))
    start = two_teachers().state_dict()
    differences = {name: (own[name] - value).abs().max().item() for name, value in joined.items()}
    found['steps'] = dict(
        differences=max(differences.values()),
        moved=max((own[n] - value).abs().max().item() for n, value in start.items() if 'neck.heads' in n),
        counted=int(own['target_generator.counter.steps']),
    )
    (Path(sys.argv[1]) / f'found{rank}.json').write_text(json.dumps(found))
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
