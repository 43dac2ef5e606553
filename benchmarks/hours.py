"""How long a pre-training takes on how many GPUs, from rates that were measured."""

from dataclasses import dataclass

IMAGES = 1_280_000  # ImageNet-1K in whole steps: 625 of 2048 an epoch


@dataclass(frozen=True)
class Assumptions:
    """What a prediction rests on.

    Args:
        step_rate: Images/s of one GPU's training step, measured, loaders aside.
        loader_rate: Images/s of one core's loader, measured.
        cores: Cores a GPU has for its loaders.
        parameters: Gradients that travel, a step. Default 86 million, ViT-B/16.
        bytes_each: Of a gradient: 4, or 2 with bf16.
        local_bandwidth: Bytes/s of an all-reduce within a machine (NVLink). Default 200e9.
        network_bandwidth: Bytes/s of one between machines, for each machine. Default 20e9 (200 Gbit/s, four
            fifths of it).
        gpus_a_machine: Default 8.
        overlap: Share of the exchange that the backward pass hides. Default 0.8.
        images_a_step: Default 2048 (paper §3.3.3).
        epochs: Default 300 (paper §3.3.3).
    """

    step_rate: float
    loader_rate: float
    cores: int
    parameters: float = 86e6
    bytes_each: int = 4
    local_bandwidth: float = 200e9
    network_bandwidth: float = 20e9
    gpus_a_machine: int = 8
    overlap: float = 0.8
    images_a_step: int = 2048
    epochs: int = 300


def predicted_hours(gpus: int, given: Assumptions) -> tuple[float, str]:
    """Hours of the whole pre-training, and what limits it.

    A step lasts as long as the slower of computing and loading, plus the part of the gradients' exchange that
    is not hidden. A ring all-reduce moves ``2 (n - 1) / n`` times the gradients through every link.

    Args:
        gpus: Number of GPUs.
        given: Rates.

    Returns:
        Hours, and ``'GPUs'``, ``'loaders'`` or ``'network'``: the largest share.

    Raises:
        ValueError: If a rate or number is not positive.
    """
    if min(gpus, given.step_rate, given.loader_rate, given.cores) <= 0:
        raise ValueError('GPUs, cores and rates must be positive')
    share = given.images_a_step / gpus
    computing, loading = share / given.step_rate, share / (given.loader_rate * given.cores)
    moved = 2 * (gpus - 1) / gpus * given.parameters * given.bytes_each
    machines = -(-gpus // given.gpus_a_machine)
    bandwidth = given.local_bandwidth if machines == 1 else given.network_bandwidth
    exchange = (1 - given.overlap) * moved / bandwidth
    steps = given.epochs * IMAGES / given.images_a_step
    parts = {'GPUs': computing, 'loaders': loading, 'network': exchange}
    return steps * (max(computing, loading) + exchange) / 3600, max(parts, key=parts.get)
