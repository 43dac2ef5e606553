import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import all_reduce
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from ...hardware import automatic_precision, has_native_bf16


@OPTIM_WRAPPERS.register_module()
class MVPOptimWrapper(OptimWrapper):
    """MMEngine's optimiser wrapper with bf16 on CUDA and CPU, which skips non-finite steps.

    bf16 has float32's range, so it needs no loss scaling; MMEngine's AMP wrapper scales all the same, and
    refuses a CPU. A step whose loss or gradient is not finite is skipped on every rank alike (the gradient
    norm after the all-reduce decides), counted and reported.

    Args:
        precision: ``'auto'`` (default: bf16 on a CUDA device that has it, else float32), ``'bfloat16'`` or
            ``'float32'``.
        max_skipped_steps: Steps skipped in a row before the run stops. Default 20.
        sharded: Whether each process holds a shard of every gradient, as under FSDP. Default False.
        **kwargs: ``optimizer``, ``accumulative_counts``, ``clip_grad``: see MMEngine's ``OptimWrapper``.

    Raises:
        ValueError: If ``precision`` is none of the above, or sharded gradients are clipped by value.
        FloatingPointError: While training, after ``max_skipped_steps`` skipped steps in a row.
    """

    def __init__(
        self, *args, precision: str = 'auto', max_skipped_steps: int = 20, sharded: bool = False, **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        if precision not in ('auto', 'bfloat16', 'float32'):
            raise ValueError(
                f"precision={precision!r} is none of 'auto', 'bfloat16', 'float32'; for fp16 use "
                "MMEngine's AmpOptimWrapper, which has the loss scaler that fp16 needs"
            )
        device = get_device()
        if precision == 'auto':
            precision = automatic_precision(device)
        elif precision == 'bfloat16' and not has_native_bf16(device):
            told = (
                f'this {device} has no instructions for bf16, which is slower than float32: with AVX2 '
                "a product takes about twenty times as long. Leave out --amp, or precision='bfloat16'"
            )
            print_log(told, logger='current', level=logging.WARNING)
        if sharded and not self._clips_by_max_norm():
            raise ValueError('sharded gradients are clipped by clip_grad=dict(max_norm=...) only')
        self.precision = precision
        self.sharded = sharded
        self.max_skipped_steps = max_skipped_steps
        self.skipped_in_a_row = self.skipped_steps = 0
        # Unread outcome of the last step: norm on the CPU, when it is there, iteration, learning rate.
        self._unread: tuple[Tensor, torch.cuda.Event | None, int, float] | None = None
        self._last_skip = ''

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        autocast = torch.autocast(get_device(), torch.bfloat16, enabled=self.precision == 'bfloat16')
        with super().optim_context(model), autocast:
            yield

    def scale_loss(self, loss: Tensor) -> Tensor:
        """Divide by the accumulation; a non-finite loss makes every gradient NaN, so the norm tells of it."""
        return super().scale_loss(loss * (1 + 0 * loss.detach()))  # exactly 1 for a finite loss

    def step(self, **kwargs: Any) -> None:
        """Clip, then step or skip; on CUDA a fused optimiser does so without making the CPU wait."""
        self._read_outcome()
        if self._decides_on_device():
            self._step_on_device(**kwargs)
            if self.skipped_in_a_row + 1 >= self.max_skipped_steps:  # perhaps the last: keep its batch
                self._read_outcome()
        else:
            norm = self._clip()
            if math.isfinite(norm):
                self.optimizer.step(**kwargs)
            self._record(norm, self._inner_count, self.optimizer.param_groups[0]['lr'])
        if self.skipped_in_a_row >= self.max_skipped_steps:
            raise FloatingPointError(
                f'{self._last_skip} Training stops after {self.max_skipped_steps} skipped steps '
                '(optim_wrapper.max_skipped_steps): lower the rate, or resume from an earlier checkpoint.'
            )

    def state_dict(self) -> dict:
        """Return MMEngine's state, with the numbers of skipped steps."""
        self._read_outcome()
        return dict(super().state_dict(), skipped=[self.skipped_in_a_row, self.skipped_steps])

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state of this wrapper, or of MMEngine's."""
        self._unread = None
        self.skipped_in_a_row, self.skipped_steps = state_dict.get('skipped', (0, 0))
        super().load_state_dict({key: value for key, value in state_dict.items() if key != 'skipped'})

    def _clips_by_max_norm(self) -> bool:
        """Whether gradients are clipped by ``max_norm`` alone, or not at all."""
        return not self.clip_grad_kwargs or self.clip_grad_kwargs.keys() == {'max_norm'}

    def _decides_on_device(self) -> bool:
        """Whether the optimiser takes a factor for the gradients, and a reason to skip, as tensors."""
        groups = self.optimizer.param_groups
        fused = getattr(self.optimizer, '_step_supports_amp_scaling', False)
        fused = fused and all(group.get('fused') for group in groups)
        here = _waits_for_device(groups[0]['params'][0]) and not self.sharded
        return here and fused and self._clips_by_max_norm()

    def _step_on_device(self, **kwargs: Any) -> None:
        norm = get_total_norm(self._gradients())
        # torch divides the gradients by this tensor, with the 1e-6 of its own clipping
        limit = self.clip_grad_kwargs['max_norm'] if self.clip_grad_kwargs else None
        scale = None if limit is None else torch.where(norm > limit, (norm + 1e-6) / limit, 1.0)
        optimizer: Any = self.optimizer
        optimizer.grad_scale, optimizer.found_inf = scale, (~norm.isfinite()).float()
        try:
            optimizer.step(**kwargs)
        finally:
            del optimizer.grad_scale, optimizer.found_inf
        on_host = norm.to('cpu', non_blocking=True)
        arrived = torch.cuda.current_stream().record_event() if norm.is_cuda else None
        self._unread = (on_host, arrived, self._inner_count, optimizer.param_groups[0]['lr'])

    def _read_outcome(self) -> None:
        """Record the last step's outcome, if it is still on the device; done when the next step is due."""
        if self._unread is None:
            return
        (on_host, arrived, iteration, rate), self._unread = self._unread, None
        if arrived is not None:
            arrived.synchronize()
        self._record(float(on_host), iteration, rate)

    def _record(self, norm: float, iteration: int, rate: float) -> None:
        """Count and report a step, made or skipped by its gradient norm."""
        if math.isfinite(norm):
            self.skipped_in_a_row = 0
            self.message_hub.update_scalar('train/grad_norm', norm)
        else:
            self.skipped_in_a_row += 1
            self.skipped_steps += 1
            self._last_skip = (
                f'Iteration {iteration}: the loss or a gradient is not finite (gradient norm {norm}); this '
                f'step is skipped ({self.skipped_in_a_row} in a row, {self.skipped_steps} in all; learning '
                f'rate {rate:.3g}).'
            )
            print_log(self._last_skip, logger='current', level=logging.WARNING)
        if self.skipped_steps:
            self.message_hub.update_scalar('train/skipped_steps', self.skipped_steps)

    def _clip(self) -> float:
        """Clip the gradients; return their total norm before."""
        settings = self.clip_grad_kwargs or {}
        total = get_total_norm(self._gradients(), settings.get('norm_type', 2.0))
        if self.sharded:
            square = total.square()
            all_reduce(square)
            total = square.sqrt()
        norm = float(total)
        if settings and 'max_norm' not in settings:
            self.clip_func([p for p in self._parameters() if p.grad is not None], **settings)
        elif settings and not norm <= settings['max_norm']:  # most steps need no pass over the gradients
            clip_grads_with_norm_(self._parameters(), settings['max_norm'], total)
        return norm

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group['params']]

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters() if parameter.grad is not None]


def _waits_for_device(parameter: nn.Parameter) -> bool:
    """Whether reading a number of this parameter's device makes the CPU wait."""
    return parameter.is_cuda
