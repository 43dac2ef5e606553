"""The stages of the GPU check: what each needs, and which run at the same time."""

from dataclasses import dataclass

PACKAGE = __name__.rpartition('.')[0]


@dataclass(frozen=True)
class Stage:
    """A module with a function ``run(report, scale)``.

    Args:
        number: As in the table of findings.
        module: Name to import.
        seconds: That it is expected to take; it is not begun with less than half of them left.
        limit: Seconds after which it is ended.
    """

    number: int
    module: str
    seconds: float
    limit: float


def _own(number: int, module: str, seconds: float, limit: float) -> Stage:
    return Stage(number, f'{PACKAGE}.{module}', seconds, limit)


# Groups, the most valuable first. The stages of a group run at the same time: they are bound by the CPU and
# time nothing.
PLAN: tuple[tuple[Stage, ...], ...] = (
    (_own(1, 'versions', 8, 40),),
    (
        _own(2, 'attention_accuracy', 25, 75),
        _own(3, 'teacher_accuracy', 15, 60),
        _own(4, 'student_accuracy', 20, 75),
    ),
    (_own(5, 'eager_step', 20, 60),),
    (_own(10, 'peers', 65, 130),),
    (_own(7, 'compiled_step', 35, 100),),
    (_own(17, 'loss_curves', 25, 60),),
    (
        _own(12, 'scenes_run', 60, 150),
        _own(11, 'exact_restart', 60, 130),
        _own(14, 'one_process', 60, 130),
    ),
    (_own(8, 'attention_speed', 20, 60),),
    (_own(9, 'single_ideas', 12, 40),),
    (_own(6, 'profiled_step', 15, 45),),
    (_own(13, 'jpeg_loop', 45, 80),),
    (_own(16, 'segmentation', 30, 60),),
)
DEBUG_FACTOR = 5  # of the limits: on a shared CPU everything takes longer


def chosen(numbers: list[int] | None) -> list[list[Stage]]:
    """The plan with these stages only; all of them by default.

    Raises:
        ValueError: If there is no stage of a number.
    """
    known = sorted(stage.number for group in PLAN for stage in group)
    if unknown := sorted(set(numbers or ()) - set(known)):
        raise ValueError(f'there is no stage {unknown}; there are {known}')
    groups = [[s for s in group if numbers is None or s.number in numbers] for group in PLAN]
    return [group for group in groups if group]
