"""Stage 7: the compiled step computes what the eager one does, and how long it takes."""

import time

import torch
from torch import Tensor

from ..interleaved import Phases, phase_shares
from ..pretrain_variants import Compiled, Eager, ThisPackage
from .eager_step import tell
from .measure import BF16, CUDA, build, cosine, event_seconds, free, product_rate, warm_compiler
from .report import Report
from .student_accuracy import randomise_tables


def run(report: Report, scale: str) -> None:
    """Compare with eager, then time at two batch sizes."""
    warm_compiler()
    full = scale == 'full'
    _compare(report, 32 if full else 2)
    rate = product_rate(scale)
    for batch in (256, 512) if full else (4,):
        torch._dynamo.reset()
        try:
            step, peak, seconds = build(Compiled, batch)
        except torch.OutOfMemoryError:
            report.add(f'compiled step of {batch}', 'out of memory')
            free()
            continue
        report.add(f'compiled step of {batch}: building and three steps', seconds, 's')
        tell(
            report, f'compiled step of {batch}', batch, event_seconds(step, 15 if full else 2, 2), peak, rate
        )
        if batch != 512:
            _parts(report, step)
        del step
        free()


def _compare(report: Report, batch: int) -> None:
    """Loss and gradients of a batch with drop path, by the same draws."""
    start = time.perf_counter()
    loss, gradients = _loss_and_gradients(Eager(batch, CUDA, BF16))
    free()
    compiled_loss, compiled = _loss_and_gradients(Compiled(batch, CUDA, BF16))
    report.at_most('compiled against eager: difference of the loss', abs(compiled_loss - loss), 2e-3)
    report.at_least('compiled against eager: cosine of all gradients', cosine(compiled, gradients), 0.999)
    report.add('compiled against eager: it took', time.perf_counter() - start, 's')
    free()


def _loss_and_gradients(step: ThisPackage) -> tuple[float, Tensor]:
    model = step.model
    randomise_tables(model)
    data = model.data_preprocessor(dict(inputs=step.crops, mask=step.mask), True)
    with step.wrapper.optim_context(model):
        torch.manual_seed(7)
        loss = model.parse_losses(model(**data, mode='loss'))[0]
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(gradients).cpu()


def _parts(report: Report, step: ThisPackage) -> None:
    """Where the time of a step goes."""
    phases = Phases(CUDA)
    for _ in range(4):
        step.timed(phases)
    shares = phase_shares(phases)
    told = ', '.join(f'{name} {share:.1%}' for name, share in shares.items())
    report.add('where the compiled step goes', told)
