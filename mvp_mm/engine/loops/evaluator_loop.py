import math
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.registry import LOOPS
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from mmpretrain.registry import EVALUATORS
from torch import nn
from torch.utils.data import DataLoader

from ..distributed.collectives import all_gather
from ..distributed.data_parallel import parameters_gathered, without_ddp
from ..hooks.evaluator_state_hook import EvaluatorStateHook
from .evaluation_loop import between_batches


class Metrics(dict[str, float]):
    """Metrics, None for evaluators that were not due: the checkpoint hook then keeps the best one."""

    waiting: tuple[str, ...] = ()

    def __missing__(self, name: str) -> None:
        if not name.startswith(self.waiting):
            raise KeyError(name)


@LOOPS.register_module()
class EvaluatorLoop(BaseLoop):
    """Run evaluators (configs or objects): those that are due while training, all of them in a test.

    MMEngine's ``dataloader`` and ``evaluator`` are not used. The hooks of a ``phase`` are called, and hooks'
    ``after_evaluation_batch(runner)`` after each batch that every process has.
    """

    def __init__(
        self, runner: Runner, dataloader: Any, evaluator: Any, evaluators: list, phase: str = 'val'
    ) -> None:
        self.phase = phase
        self.dataloaders: list[DataLoader] = []
        self.evaluators = [self._build(runner, entry) for entry in evaluators]
        prefixes = [one.prefix for one in self.evaluators]
        twice = sorted({prefix for prefix in prefixes if prefixes.count(prefix) > 1})
        if twice:
            raise ValueError(f'two evaluators log {twice[0]}/...: give each a prefix of its own')
        for one in self.evaluators if isinstance(runner.model, nn.Module) else ():  # FSDP's is built later
            one.require(without_ddp(runner.model))
        super().__init__(runner, self.evaluators[0].dataloader)  # logging asks for the length of one
        if any(map(EvaluatorStateHook.concerns, self.evaluators)):
            hook = next((hook for hook in runner.hooks if isinstance(hook, EvaluatorStateHook)), None)
            if hook is None:
                runner.register_hook(hook := EvaluatorStateHook())
            hook.add(self.evaluators)

    def _build(self, runner: Runner, entry: Any) -> Any:
        if not isinstance(entry, dict):
            self.dataloaders.append(entry.dataloader)
            return entry
        loaders = {
            key: runner.build_dataloader(value, seed=runner.seed)
            for key, value in entry.items()
            if key.endswith('dataloader') and isinstance(value, dict)
        }
        self.dataloaders += loaders.values()
        return EVALUATORS.build({**entry, **loaders})

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluate; return the numbers by ``prefix/name``."""
        runner, phase = self.runner, self.phase
        runner.call_hook(f'before_{phase}')
        runner.call_hook(f'before_{phase}_epoch')
        runner.model.eval()  # of mmpretrain's modules, some return nothing
        model = without_ddp(runner.model)
        metrics = Metrics()
        for evaluator in self.evaluators:
            start = f'{evaluator.prefix}/' if evaluator.prefix else ''
            if self._is_due(evaluator):
                with parameters_gathered(model):
                    if is_model_wrapper(model):
                        evaluator.require(model)
                    with between_batches(partial(runner.call_hook, 'after_evaluation_batch')):
                        own = evaluator.evaluate(model)
                # All processes act on the same numbers; on GPUs, sums may differ in the last bit.
                found = all_gather(own)[0]
                metrics.update({start + name: value for name, value in found.items()})
            else:
                metrics.waiting += (start,)
        runner.call_hook(f'after_{phase}_epoch', metrics=metrics)
        runner.call_hook(f'after_{phase}')
        return metrics

    def _is_due(self, evaluator: Any) -> bool:
        loop = self.runner._train_loop
        if self.phase == 'test' or evaluator.interval is None or not isinstance(loop, BaseLoop):
            return True
        by_iteration = isinstance(loop, IterBasedTrainLoop)
        done, last = (loop.iter, loop.max_iters) if by_iteration else (loop.epoch, loop.max_epochs)
        return done % evaluator.interval == 0 or done >= last


def use_evaluators(cfg: Config) -> None:
    """Let :class:`EvaluatorLoop` run a config's ``evaluators``; the config is changed in place.

    ``val_evaluator`` and ``test_evaluator`` may name an evaluator, which takes the loader of that phase. A
    metric in ``val_evaluator`` becomes one more. A config without a test is tested with all of them.
    """
    evaluators = cfg.pop('evaluators', None) or []
    for phase in ('val', 'test'):
        own, loader = cfg.get(f'{phase}_evaluator'), cfg.get(f'{phase}_dataloader')
        given = list(evaluators) if phase == 'val' or not own else []
        kind = own.get('type') if isinstance(own, dict) else None
        if kind and EVALUATORS.get(kind) is not None:
            given.append(dict(dataloader=loader, **own))
        elif own and given:
            given.append(dict(type='MetricEvaluator', dataloader=loader, metrics=own))
        if not given:
            continue
        cfg[f'{phase}_cfg'] = dict(type='EvaluatorLoop', evaluators=given, phase=phase)
        # MMEngine builds a loop only where these two are given, too.
        cfg[f'{phase}_dataloader'] = cfg[f'{phase}_evaluator'] = dict()
        if phase == 'val' and cfg.get('train_cfg'):
            # MMEngine's defaults
            interval = cfg.train_cfg.get('val_interval', 1000 if 'max_iters' in cfg.train_cfg else 1)
            cfg.train_cfg.val_interval = math.gcd(*(one.get('interval') or interval for one in given))
