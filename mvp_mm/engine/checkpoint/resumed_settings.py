import ast
import reprlib
from collections.abc import Iterable, Iterator
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.optim import Optimizer

from ...wording import counted, listed

# Parts of a config that change the training, and names in them that do not.
OF_OPTIMISER = ('train_cfg', 'optim_wrapper', 'param_scheduler', 'auto_scale_lr')
COMPARED = (*OF_OPTIMISER, 'randomness', 'model', 'train_dataloader', 'custom_hooks', 'bf16_gradients')
IGNORED = {'_scope_', 'cache_dir', 'init_cfg', 'num_workers', 'persistent_workers', 'pin_memory'}
IGNORED |= {'prefetch_factor'}
IMPLEMENTATION = {'capturable', 'differentiable', 'foreach', 'fused'}  # which depend on the machine
# A schedule's state that is no setting.
PROGRESS = {'last_step', '_global_step', '_last_value', 'best', 'num_bad_epochs', 'cooldown_counter'}
PROGRESS |= {'base_values', 'verbose'}
LISTED = 12
ENTRIES = ' entries'


class ResumedSettings:
    """Apply the settings of this run's config to a training that is resumed.

    MMEngine takes learning rate, weight decay, betas and schedule from the checkpoint. Here changed settings
    hold: the optimiser keeps its moments, and the schedule is advanced to where a run with this config would
    have it after as many iterations and epochs. The runner's loop, optimiser and schedules must be built.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self._replays = False
        self._changes: list[str] = []
        self._saved_lr = 0.0

    def apply_to(self, checkpoint: dict, source: str) -> None:
        """Replace settings in a checkpoint before the optimiser loads it; ValueError if they cannot fit."""
        runner, wrapper = self.runner, self.runner.optim_wrapper
        saved, meta = checkpoint['optimizer'], checkpoint['meta']
        saved_schedules = checkpoint.get('param_schedulers') or []
        if not isinstance(wrapper, OptimWrapper) or isinstance(wrapper, OptimWrapperDict):
            return
        restart = meta.get('restart') or {}
        kinds = [restart.get('optimizer'), type(wrapper.optimizer).__name__]
        if kinds[0] is None:
            texts = meta.get('cfg'), runner.cfg.pretty_text
            kinds = [_values(text).get('optim_wrapper.optimizer.type') for text in texts]
        _require_same_optimiser(wrapper.optimizer, saved, kinds, source)
        groups, schedules = wrapper.optimizer.param_groups, runner.param_schedulers or []
        changes = _group_changes(saved['param_groups'], groups)
        changes += _schedule_changes(saved_schedules, schedules)
        length = len(runner.train_dataloader) if self._by_epoch else None
        self._replays = bool(changes) or restart.get('iterations_per_epoch', length) != length
        self._changes = config_changes(meta.get('cfg'), runner.cfg.pretty_text)
        if not any(change.startswith(OF_OPTIMISER) for change in self._changes):
            self._changes += changes
        old, new = restart.get('precision'), getattr(wrapper, 'precision', None)
        if old is not None and new is not None and old != new:  # 'auto' on another machine
            self._changes.append(f'computed in {old} -> {new}')
        self._saved_lr = (saved.get('base_param_settings') or saved['param_groups'][0])['lr']
        if self._replays and any(getattr(schedule, 'need_val_args', False) for schedule in schedules):
            raise ValueError(
                f'training cannot go on from {source} with other settings '
                f'({listed(self._changes, LISTED, "; ")}): its schedule follows the results of validations, '
                'which cannot be repeated. Use the previous settings, or begin a new run from its weights '
                'with --cfg-options load_from=FILE'
            )
        for old, new in zip(saved['param_groups'], groups, strict=True):
            taken = new.keys() - {'params'} if self._replays else new.keys() & IMPLEMENTATION
            old.update({key: new[key] for key in taken})
        if self._replays:  # this run's are kept
            saved.pop('base_param_settings', None)
            checkpoint.pop('param_schedulers', None)
        for schedule in saved_schedules:
            for key in [key for key, value in schedule.items() if value is None]:
                del schedule[key]  # a function, which this run has and a checkpoint does not hold

    def replay_schedule(self) -> None:
        """Advance the schedule where settings changed, and report the changes; call this after the resume."""
        runner, loop = self.runner, self.runner.train_loop
        changes = listed(self._changes, LISTED, '; ')
        told = [f"This config differs from the checkpoint's: {changes}."] if changes else []
        if self._replays:
            self._advance_schedules()
            rates = runner.optim_wrapper.get_lr()
            change = f'learning rate {self._saved_lr:.4g} -> {rates.get("base_lr", rates["lr"])[0]:.4g}'
            told.append(
                'The optimiser and the schedule are those of this config, after '
                f'{loop.iter} iterations of it: {change}'
            )
        if told:
            runner.logger.warning(' '.join(told))
        done, length, unit = loop.iter, loop.max_iters, 'iteration'
        if self._by_epoch:
            done, length, unit = loop.epoch, loop.max_epochs, 'epoch'
        if done >= length:
            runner.logger.warning(f'Nothing is left to train: {done:,} of {counted(length, unit)} done')

    def _advance_schedules(self) -> None:
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
    """List differences such as ``'a.b 2 -> 4'`` between two configs' texts, which are parsed, not run."""
    before, after = _values(saved), _values(now)
    changes: list[str] = []
    resized: tuple[str, ...] = ()  # prefixes of lists whose entries cannot be matched
    paths = {**before, **after} if before and after else {}
    for path in sorted(paths, key=lambda path: COMPARED.index(path.split('.')[0])):
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
    found: dict[str, str] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and (name := ast.unparse(statement.targets[0])) in COMPARED:
            found.update(_flat(name, statement.value))
    return found


def _flat(path: str, node: ast.expr) -> Iterator[tuple[str, str]]:
    entries: Iterable[tuple[Any, ast.expr]] = ()
    match node:
        case ast.Call(func=ast.Name(id='dict')):
            entries = [(keyword.arg, keyword.value) for keyword in node.keywords]
        case ast.Dict():
            entries = zip((getattr(key, 'value', None) for key in node.keys), node.values, strict=True)
        case ast.List() | ast.Tuple() if any(isinstance(one, ast.Call | ast.Dict) for one in node.elts):
            entries = enumerate(node.elts)
            yield path, f'{len(node.elts)}{ENTRIES}'
        case _:
            yield path, _text(node)
    for key, value in entries:
        if key not in IGNORED:
            yield from _flat(f'{path}.{key}', value)


def _text(node: ast.expr) -> str:
    """Format a value; a tuple as the list that it becomes in a dumped config."""
    if isinstance(node, ast.List | ast.Tuple):
        return f'[{", ".join(map(_text, node.elts))}]'
    return ast.unparse(node)


def _require_same_optimiser(optimizer: Optimizer, saved: dict, kinds: list, source: str) -> None:
    """Refuse the state of another optimiser or other parameters."""
    advice = f'. Use what it was trained with, or begin a new run with --cfg-options load_from={source}'
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
        sizes = [reprlib.repr(numbers)[1:-1] for numbers in (old, new)]
        raise ValueError(
            f'{source} has an optimiser with parameter groups of {sizes[0]} tensors, and this config makes '
            f'groups of {sizes[1]}{" with other shapes" if old == new else ""} (optim_wrapper.paramwise_cfg, '
            f'or frozen layers){advice}'
        )
    for key in ('amsgrad', 'centered'):
        if saved['state'] and optimizer.param_groups[0].get(key) and not saved['param_groups'][0].get(key):
            raise ValueError(f'{source} has {key}=False, and lacks the state for {key}=True{advice}')


def _group_changes(before: list[dict], after: list[dict]) -> list[str]:
    """List the optimiser's settings that differ; a scheduled one by its initial value."""
    scheduled = {key.removeprefix('initial_') for key in after[0] if key.startswith('initial_')}
    if 'momentum' in scheduled:
        scheduled.add('betas')  # whose first is the momentum
    changes = []
    for key in after[0].keys() - {'params'} - IMPLEMENTATION - scheduled:
        pairs = [
            (old[key], new[key])
            for old, new in zip(before, after, strict=True)
            if key in old and _differ(old[key], new[key])
        ]
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
    old, new = (list(value) if isinstance(value, tuple) else value for value in (old, new))
    return old != new
