"""Go on from a checkpoint with another config: by the new settings, and with a word about what changed."""

import ast
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.optim import Optimizer

# Parts of a config that change what is trained, and names in them that do not.
COMPARED = (
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'randomness',
    'model',
    'train_dataloader',
    'custom_hooks',
    'bf16_gradients',
)
PASSED_OVER = {
    '_scope_',
    'cache_dir',
    'init_cfg',
    'num_workers',
    'persistent_workers',
    'pin_memory',
    'prefetch_factor',
}
OF_OPTIMISER = COMPARED[:4]
# How an optimiser computes, which is this machine's affair, and how far a schedule is.
IMPLEMENTATION = {'capturable', 'differentiable', 'foreach', 'fused'}
PROGRESS = {'last_step', '_global_step', '_last_value', 'best', 'num_bad_epochs', 'cooldown_counter'}
LISTED = 12
ENTRIES = ' entries'


class ResumedSettings:
    """The settings with which a resumed run goes on.

    MMEngine puts the checkpoint's learning rate, weight decay, betas and schedule over those of the config.
    Here the config's hold. If they are the checkpoint's, nothing differs from a run that was never stopped.
    If not, the moments of the optimiser are kept, and the schedule is brought to where a run with this config
    from the beginning would have it after as many iterations and epochs. A warning says what changed.

    Args:
        runner: With its training loop, optimiser and schedules built for a new run.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._replays = False
        self._changes: list[str] = []
        self._saved_lr = 0.0

    def apply_to(self, checkpoint: dict, source: str) -> None:
        """Replace the settings in a checkpoint, before the optimiser takes its state from it.

        Args:
            checkpoint: Of a training; changed in place.
            source: Its file, for messages.

        Raises:
            ValueError: If the optimiser is of another type or has other parameter groups, or a schedule that
                follows the validation would have to be brought to its place.
        """
        runner, saved = self.runner, checkpoint['optimizer']
        wrapper, meta = runner.optim_wrapper, checkpoint['meta']
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            return
        restart = meta.get('restart') or {}
        kinds = [
            _values(text).get('optim_wrapper.optimizer.type')
            for text in (meta.get('cfg'), runner.cfg.pretty_text)
        ]
        if restart.get('optimizer') is not None:
            kinds = [restart['optimizer'], type(wrapper.optimizer).__name__]
        _require_same_optimiser(wrapper.optimizer, saved, kinds, source)
        groups = wrapper.optimizer.param_groups
        of_optimiser = _group_changes(saved['param_groups'], groups)
        of_optimiser += _schedule_changes(
            checkpoint.get('param_schedulers') or [], runner.param_schedulers or []
        )
        length = len(runner.train_dataloader) if _counts_epochs(runner) else None
        self._replays = bool(of_optimiser) or restart.get('iterations_per_epoch', length) != length
        self._changes = config_changes(meta.get('cfg'), runner.cfg.pretty_text)
        if not any(change.startswith(OF_OPTIMISER) for change in self._changes):
            self._changes += of_optimiser
        precisions = restart.get('precision'), getattr(wrapper, 'precision', None)
        if None not in precisions and precisions[0] != precisions[1]:
            self._changes.append(
                f'computed in {precisions[0]} -> {precisions[1]}'
            )  # 'auto' on another machine
        self._saved_lr = (saved.get('base_param_settings') or saved['param_groups'][0])['lr']
        if not self._replays:
            for old, new in zip(saved['param_groups'], groups, strict=True):
                old.update({key: new[key] for key in IMPLEMENTATION & new.keys()})
            for schedule in checkpoint.get('param_schedulers') or []:
                for key in [key for key, value in schedule.items() if value is None]:
                    del schedule[key]  # a function, which a checkpoint does not hold; this run has it
            return
        if any(getattr(schedule, 'need_val_args', False) for schedule in runner.param_schedulers or []):
            raise ValueError(
                f'training cannot go on from {source} with other settings ({_listed(self._changes)}): its '
                'schedule follows the results of validations, which are not there to be repeated. Use the '
                'settings of before, or begin a new run from its weights with --cfg-options load_from=FILE'
            )
        for old, new in zip(saved['param_groups'], groups, strict=True):
            old.update({key: value for key, value in new.items() if key != 'params'})
        saved.pop('base_param_settings', None)  # this run's are there
        checkpoint.pop('param_schedulers', None)

    def replay_schedule(self) -> None:
        """Take the steps that the schedule would have made, and report the changes; after the resume."""
        runner, loop = self.runner, self.runner.train_loop
        told = (
            f"This config differs from the checkpoint's: {_listed(self._changes)}. " if self._changes else ''
        )
        if self._replays:
            self._replay()
            rates = runner.optim_wrapper.get_lr()
            rate = rates.get('base_lr', rates['lr'])[0]
            told += (
                f'The optimiser and the schedule are those of this config, after {loop.iter} iterations of '
                f'it: learning rate {self._saved_lr:.4g} -> {rate:.4g}'
            )
        if told:
            runner.logger.warning(told.rstrip())
        done, length = (
            (loop.epoch, loop.max_epochs) if _counts_epochs(runner) else (loop.iter, loop.max_iters)
        )
        if done >= length:
            unit = 'epochs' if _counts_epochs(runner) else 'iterations'
            runner.logger.warning(
                f'Nothing is left to train: {done} {unit} are done, and the config asks for {length}'
            )

    def _replay(self) -> None:
        schedules, loop = self.runner.param_schedulers or [], self.runner.train_loop
        of_iterations = [schedule for schedule in schedules if not schedule.by_epoch]
        of_epochs = (
            [schedule for schedule in schedules if schedule.by_epoch] if _counts_epochs(self.runner) else []
        )
        for schedule in schedules:
            schedule.optimizer._global_step = 0  # it has made steps, so MMEngine need not warn
        epochs = 0
        for iteration in range(1, loop.iter + 1):
            for schedule in of_iterations:
                schedule.step()
            if of_epochs and iteration % len(loop.dataloader) == 0 and epochs < loop.epoch:
                epochs += 1
                for schedule in of_epochs:
                    schedule.step()


def config_changes(saved: Any, now: str) -> list[str]:
    """What differs between two configs in the parts that change the training.

    Args:
        saved: Text of the checkpoint's config, as MMEngine writes it; it is parsed, not run.
        now: Text of this run's config.

    Returns:
        Such as ``'train_cfg.max_epochs 2 -> 4'``; empty if one of the two is no such text.
    """
    before, after = _values(saved), _values(now)
    if not before or not after:
        return []
    changes: list[str] = []
    of_other_length: tuple[str, ...] = ()
    for path in sorted({**before, **after}, key=lambda path: COMPARED.index(path.split('.')[0])):
        old, new = before.get(path, 'not set'), after.get(path, 'not set')
        if old != new and not path.startswith(of_other_length):
            if old.endswith(ENTRIES) and new.endswith(ENTRIES):
                of_other_length += (f'{path}.',)  # whose entries cannot be told apart
            kept = " (the checkpoint's is kept)" if path == 'randomness.seed' else ''
            changes.append(f'{path} {old} -> {new}{kept}')
    return changes


def _values(text: Any) -> dict[str, str]:
    """The values in a config's text, by dotted key."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        return {}
    values: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name in COMPARED:
                _collect(statement.value, name, values)
    return values


def _collect(node: ast.expr, path: str, values: dict[str, str]) -> None:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        entries = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        entries = [
            (getattr(key, 'value', None), value) for key, value in zip(node.keys, node.values, strict=True)
        ]
    elif isinstance(node, ast.List | ast.Tuple) and any(
        isinstance(e, ast.Call | ast.Dict) for e in node.elts
    ):
        entries = list(enumerate(node.elts))
        values[path] = f'{len(entries)}{ENTRIES}'
    else:
        values[path] = _text(node)
        return
    for key, value in entries:
        if key not in PASSED_OVER:
            _collect(value, f'{path}.{key}', values)


def _text(node: ast.expr) -> str:
    """A value as Python writes it; tuples as lists, which a dumped config makes of them."""
    if isinstance(node, ast.List | ast.Tuple):
        return f'[{", ".join(map(_text, node.elts))}]'
    return ast.unparse(node)


def _require_same_optimiser(optimizer: Optimizer, saved: dict, kinds: list[str | None], source: str) -> None:
    """Refuse a state that is not of this optimiser and these parameters."""
    advice = (
        '. Use what it was trained with, or begin a new run from its weights with --cfg-options '
        f'load_from={source}'
    )
    old, new = kinds
    if None not in kinds and old != new:
        raise ValueError(f'{source} has the state of {old}, and this config trains with {new}{advice}')
    sizes = [
        [len(group['params']) for group in groups]
        for groups in (saved['param_groups'], optimizer.param_groups)
    ]
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    numbers = [number for group in saved['param_groups'] for number in group['params']]
    moments = saved['state']
    fits = sizes[0] == sizes[1] and all(
        value.shape == parameter.shape
        for number, parameter in zip(numbers, parameters, strict=True)
        for value in moments.get(number, {}).values()
        if isinstance(value, Tensor) and value.ndim
    )
    if not fits:
        raise ValueError(
            f'{source} has an optimiser with parameter groups of {_sizes(sizes[0])} tensors, and this config '
            f'makes groups of {_sizes(sizes[1])}{"" if sizes[0] != sizes[1] else " with other shapes"} '
            f'(optim_wrapper.paramwise_cfg, or frozen layers): its moments belong to other parameters{advice}'
        )
    for key in ('amsgrad', 'centered'):
        old, new = (bool(groups[0].get(key)) for groups in (saved['param_groups'], optimizer.param_groups))
        if new and not old and moments:
            raise ValueError(
                f'{source} was trained with {key}={old}, and lacks the state for {key}={new}{advice}'
            )


def _sizes(sizes: list[int]) -> str:
    shown = ', '.join(map(str, sizes[:6]))
    return shown if len(sizes) <= 6 else f'{shown}, ... ({len(sizes)} groups)'


def _group_changes(before: list[dict], after: list[dict]) -> list[str]:
    """The optimiser's settings that differ; of a scheduled one the value from which the schedule begins."""
    scheduled = {key.removeprefix('initial_') for key in after[0] if key.startswith('initial_')}
    if 'momentum' in scheduled:
        scheduled.add('betas')  # of which it is the first
    changes = []
    for key in after[0]:
        if key in {'params', *IMPLEMENTATION, *scheduled}:
            continue
        pairs = [(old[key], new[key]) for old, new in zip(before, after, strict=True) if key in old]
        pairs = [pair for pair in pairs if not _same(*pair)]
        if pairs:
            old, new = pairs[-1]  # of the last layers, which no layer decay lowers
            where = '' if len(pairs) == len(after) else f' (in {len(pairs)} of {len(after)} parameter groups)'
            changes.append(f'{key.removeprefix("initial_")} {old} -> {new}{where}')
    return changes


def _schedule_changes(before: list[dict], after: list) -> list[str]:
    if len(before) != len(after):
        return [f'{len(before)} schedules -> {len(after)}']
    changes = []
    for saved, schedule in zip(before, after, strict=True):
        for key, new in schedule.state_dict().items():
            if key in PROGRESS or key in ('base_values', 'verbose') or callable(new):
                continue
            old = saved.get(key, 'not set')
            if not _same(old, new):
                changes.append(f'{type(schedule).__name__}.{key} {old} -> {new}')
    return changes


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return list(old) == list(new)
    return old == new


def _counts_epochs(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _listed(changes: list[str]) -> str:
    rest = f'; and {len(changes) - LISTED} more' if len(changes) > LISTED else ''
    return '; '.join(changes[:LISTED]) + rest
