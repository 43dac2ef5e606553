from collections.abc import Iterable
from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmengine.utils import apply_to

from ..distributed.data_parallel import parameters_gathered, without_ddp


@HOOKS.register_module()
class EvaluatorStateHook(Hook):
    """Let evaluators learn beside the training, and keep what they have learnt in its checkpoints.

    :class:`EvaluatorLoop` registers it for evaluators that have ``after_train_iter`` or ``state_dict``. It
    loads states where a run is resumed, validated or tested, and not by ``load_from`` into a new training.
    """

    priority = 'NORMAL'  # before the checkpoint is written

    def __init__(self) -> None:
        self.evaluators: dict[str, Any] = {}
        self._loaded: dict | None = None

    @staticmethod
    def concerns(evaluator: Any) -> bool:
        """Whether an evaluator asks for this hook."""
        return hasattr(evaluator, 'after_train_iter') or hasattr(evaluator, 'state_dict')

    def add(self, evaluators: Iterable[Any]) -> None:
        """Take a loop's evaluators; a test after the training takes over the states."""
        for one in filter(self.concerns, evaluators):
            before = self.evaluators.setdefault(one.prefix, one)
            if before is not one and hasattr(one, 'load_state_dict'):
                one.load_state_dict(before.state_dict())

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        model = without_ddp(runner.model)
        with parameters_gathered(model):
            for one in self.evaluators.values():
                if hasattr(one, 'after_train_iter'):
                    one.after_train_iter(model, runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the states as ``evaluators``, by prefix."""
        states = {prefix: one.state_dict() for prefix, one in self._with_state().items()}
        checkpoint['evaluators'] = apply_to(states, lambda x: hasattr(x, 'cpu'), lambda x: x.cpu())

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = checkpoint.get('evaluators') or {}  # until it is known what for

    def before_train(self, runner: Runner) -> None:
        if not runner.iter:  # not resumed
            self._loaded = None
        self.before_test(runner)

    def before_test(self, runner: Runner) -> None:
        """Load the states of the checkpoint, if there is one."""
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        for prefix, one in self._with_state().items():
            if prefix in loaded:
                one.load_state_dict(loaded[prefix])
            else:
                runner.logger.warning(f'The checkpoint holds no state of {prefix}, which begins anew')

    before_val = before_test

    def _with_state(self) -> dict[str, Any]:
        return {prefix: one for prefix, one in self.evaluators.items() if hasattr(one, 'state_dict')}
