"""Resume with a changed config: the new settings hold, and a warning lists the changes."""

import ast
from collections.abc import Iterator
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.optim import Optimizer

# Parts of a config that change the training, and names in them that do not.
OF_OPTIMISER = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
COMPARED = (*OF_OPTIMISER, 'randomness', 'model', 'train_dataloader', 'custom_hooks', 'bf16_gradients')
IGNORED = {'_scope_', 'cache_dir', 'init_cfg', 'num_workers', 'persistent_workers', 'pin_memory'}
IGNORED |= {'prefetch_factor'}
# Settings of an optimiser that depend on the machine, and entries of a schedule's state that are no settings.
IMPLEMENTATION = {'capturable', 'differentiable', 'foreach', 'fused'}
PROGRESS = {'last_step', '_global_step', '_last_value', 'best', 'num_bad_epochs', 'cooldown_counter'}
PROGRESS |= {'base_values', 'verbose'}
LISTED = 12
ENTRIES = ' entries'


class ResumedSettings:
    """Apply the settings of this run's config to a training that is resumed.

    MMEngine overwrites learning rate, weight decay, betas and schedule with the checkpoint's. Here unchanged
    settings give the run that was never stopped. With changed ones the optimiser keeps its moments, and the
    schedule is advanced to where a run with this config would have it after as many iterations and epochs.

    Args:
        runner: With training loop, optimiser and schedules built for a new run.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self._replays = False
        self._changes: list[str] = []
        self._saved_lr = 0.0

    def apply_to(self, checkpoint: dict, source: str) -> None:
        """Replace the settings in a checkpoint, in place, before the optimiser loads its state.

        Raises:
            ValueError: If the optimiser or its parameter groups differ, or the schedule changed but follows
                validations, which cannot be repeated.
        """
        runner, wrapper = self.runner, self.runner.optim_wrapper
        saved, meta = checkpoint['optimizer'], checkpoint['meta']
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            return
        restart = meta.get('restart') or {}
        kinds: tuple[str | None, str | None] = restart.get('optimizer'), type(wrapper.optimizer).__name__
        if kinds[0] is None:
            before, after = _values(meta.get('cfg')), _values(runner.cfg.pretty_text)
            kinds = before.get('optim_wrapper.optimizer.type'), after.get('optim_wrapper.optimizer.type')
        _require_same_optimiser(wrapper.optimizer, saved, kinds, source)
        groups, schedules = wrapper.optimizer.param_groups, runner.param_schedulers or []
        changes = _group_changes(saved['param_groups'], groups)
        changes += _schedule_changes(checkpoint.get('param_schedulers') or [], schedules)
        length = len(runner.train_dataloader) if self._by_epoch else None
        self._replays = bool(changes) or restart.get('iterations_per_epoch', length) != length
        self._changes = config_changes(meta.get('cfg'), runner.cfg.pretty_text)
        if not any(change.startswith(OF_OPTIMISER) for change in self._changes):
            self._changes += changes
        old, new = restart.get('precision'), getattr(wrapper, 'precision', None)
        if old is not None and new is not None and old != new:  # 'auto' on another machine
            self._changes.append(f'computed in {old} -> {new}')
        self._saved_lr = (saved.get('base_param_settings') or saved['param_groups'][0])['lr']
        if not self._replays:
            for old, new in zip(saved['param_groups'], groups, strict=True):
                old.update({key: new[key] for key in IMPLEMENTATION & new.keys()})
            for schedule in checkpoint.get('param_schedulers') or []:
                for key in [key for key, value in schedule.items() if value is None]:
                    del schedule[key]  # a function, which this run has and a checkpoint does not hold
            return
        if any(getattr(schedule, 'need_val_args', False) for schedule in schedules):
            raise ValueError(
                f'training cannot go on from {source} with other settings ({_listed(self._changes)}): its '
                'schedule follows the results of validations, which cannot be repeated. Use the previous '
                'settings, or begin a new run from its weights with --cfg-options load_from=FILE'
            )
        for old, new in zip(saved['param_groups'], groups, strict=True):
            old.update({key: value for key, value in new.items() if key != 'params'})
        # keep this run's
        saved.pop('base_param_settings', None)
        checkpoint.pop('param_schedulers', None)

    def replay_schedule(self) -> None:
        """Advance the schedule where settings changed, and report the changes; call this after the resume."""
        runner, loop = self.runner, self.runner.train_loop
        told = []
        if self._changes:
            told.append(f"This config differs from the checkpoint's: {_listed(self._changes)}.")
        if self._replays:
            self._replay()
            rates = runner.optim_wrapper.get_lr()
            rate = rates.get('base_lr', rates['lr'])[0]
            told.append(
                f'The optimiser and the schedule are those of this config, after {loop.iter} iterations of '
                f'it: learning rate {self._saved_lr:.4g} -> {rate:.4g}'
            )
        if told:
            runner.logger.warning(' '.join(told))
        unit, done, length = 'iterations', loop.iter, loop.max_iters
        if self._by_epoch:
            unit, done, length = 'epochs', loop.epoch, loop.max_epochs
        if done >= length:
            runner.logger.warning(
                f'Nothing is left to train: {done} {unit} are done, and the config asks for {length}'
            )

    def _replay(self) -> None:
        loop = self.runner.train_loop
        schedules = sorted(self.runner.param_schedulers or [], key=lambda schedule: schedule.by_epoch)
        for schedule in schedules:
            schedule.optimizer._global_step = 0  # else MMEngine warns that no step has been made
        length = len(loop.dataloader) if self._by_epoch else loop.iter + 1
        for iteration in range(1, loop.iter + 1):
            epoch, rest = divmod(iteration, length)
            for schedule in schedules:
                if not schedule.by_epoch or (rest == 0 and epoch <= loop.epoch):
                    schedule.step()


def config_changes(saved: Any, now: str) -> list[str]:
    """List differences such as ``'train_cfg.max_epochs 2 -> 4'`` between the texts of two configs.

    The texts are parsed, not run; if one of them cannot be parsed, the list is empty.
    """
    before, after = _values(saved), _values(now)
    if not before or not after:
        return []
    changes: list[str] = []
    resized: tuple[str, ...] = ()  # lists whose entries cannot be matched
    for path in sorted({**before, **after}, key=lambda path: COMPARED.index(path.split('.')[0])):
        old, new = before.get(path, 'not set'), after.get(path, 'not set')
        if old != new and not path.startswith(resized):
            if old.endswith(ENTRIES) and new.endswith(ENTRIES):
                resized += (f'{path}.',)
            kept = " (the checkpoint's is kept)" if path == 'randomness.seed' else ''
            changes.append(f'{path} {old} -> {new}{kept}')
    return changes


def _values(text: Any) -> dict[str, str]:
    """Return the compared values in a config's text by dotted key."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return {}
    values: dict[str, str] = {}
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in COMPARED:
                values.update(_flat(name, value))
    return values


def _flat(path: str, node: ast.expr) -> Iterator[tuple[str, str]]:
    entries: list[tuple[Any, ast.expr]]
    match node:
        case ast.Call(func=ast.Name(id='dict'), keywords=keywords):
            entries = [(keyword.arg, keyword.value) for keyword in keywords]
        case ast.Dict(keys=keys, values=values):
            entries = [(getattr(key, 'value', None), value) for key, value in zip(keys, values, strict=True)]
        case ast.List(elts=elements) | ast.Tuple(elts=elements) if any(
            isinstance(element, ast.Call | ast.Dict) for element in elements
        ):
            entries = list(enumerate(elements))
            yield path, f'{len(entries)}{ENTRIES}'
        case _:
            entries = []
            yield path, _text(node)
    for key, value in entries:
        if key not in IGNORED:
            yield from _flat(f'{path}.{key}', value)


def _text(node: ast.expr) -> str:
    """Format a value; a tuple as the list that it becomes in a dumped config."""
    if isinstance(node, ast.List | ast.Tuple):
        return f'[{", ".join(map(_text, node.elts))}]'
    return ast.unparse(node)


def _require_same_optimiser(
    optimizer: Optimizer, saved: dict, kinds: tuple[str | None, str | None], source: str
) -> None:
    """Refuse the state of another optimiser or other parameters."""
    advice = (
        '. Use what it was trained with, or begin a new run from its weights with --cfg-options '
        f'load_from={source}'
    )
    if None not in kinds and kinds[0] != kinds[1]:
        raise ValueError(
            f'{source} has the state of {kinds[0]}, and this config trains with {kinds[1]}{advice}'
        )
    old, new = ([len(group['params']) for group in side['param_groups']] for side in (saved, vars(optimizer)))
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    numbers = [number for group in saved['param_groups'] for number in group['params']]
    fits = old == new and all(
        value.shape == parameter.shape
        for number, parameter in zip(numbers, parameters, strict=True)
        for value in saved['state'].get(number, {}).values()
        if isinstance(value, Tensor) and value.ndim
    )
    if not fits:
        shapes = ' with other shapes' if old == new else ''
        raise ValueError(
            f'{source} has an optimiser with parameter groups of {_sizes(old)} tensors, and this config '
            f'makes groups of {_sizes(new)}{shapes} '
            f'(optim_wrapper.paramwise_cfg, or frozen layers): its moments belong to other parameters{advice}'
        )
    for key in ('amsgrad', 'centered'):
        if saved['state'] and optimizer.param_groups[0].get(key) and not saved['param_groups'][0].get(key):
            raise ValueError(
                f'{source} was trained with {key}=False, and lacks the state for {key}=True{advice}'
            )


def _sizes(sizes: list[int]) -> str:
    shown = ', '.join(map(str, sizes[:6]))
    return shown if len(sizes) <= 6 else f'{shown}, ... ({len(sizes)} groups)'


def _group_changes(before: list[dict], after: list[dict]) -> list[str]:
    """List the optimiser's settings that differ; a scheduled one by its initial value."""
    scheduled = {key.removeprefix('initial_') for key in after[0] if key.startswith('initial_')}
    if 'momentum' in scheduled:
        scheduled.add('betas')  # whose first is the momentum
    changes = []
    for key in after[0].keys() - {'params'} - IMPLEMENTATION - scheduled:
        pairs = [(old[key], new[key]) for old, new in zip(before, after, strict=True) if key in old]
        pairs = [pair for pair in pairs if _differ(*pair)]
        if pairs:
            old, new = pairs[-1]  # of the last layers, which layer decay does not lower
            where = '' if len(pairs) == len(after) else f' (in {len(pairs)} of {len(after)} parameter groups)'
            changes.append(f'{key.removeprefix("initial_")} {old} -> {new}{where}')
    return sorted(changes)


def _schedule_changes(before: list[dict], after: list) -> list[str]:
    if len(before) != len(after):
        return [f'{len(before)} schedules -> {len(after)}']
    return [
        f'{type(schedule).__name__}.{key} {saved.get(key, "not set")} -> {new}'
        for saved, schedule in zip(before, after, strict=True)
        for key, new in schedule.state_dict().items()
        if key not in PROGRESS and not callable(new) and _differ(saved.get(key, 'not set'), new)
    ]


def _differ(old: Any, new: Any) -> bool:
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return list(old) != list(new)
    return old != new


def _listed(changes: list[str]) -> str:
    rest = f'; and {len(changes) - LISTED} more' if len(changes) > LISTED else ''
    return '; '.join(changes[:LISTED]) + rest
