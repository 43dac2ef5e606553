"""Does a weight file fill a teacher?"""

from pathlib import Path

from torch import Tensor


def require_fit(
    weights: dict[str, Tensor], own: dict[str, Tensor], path: Path, model_name: str, prefix: str = ''
) -> None:
    """Check that a file fills every entry of a network.

    Args:
        weights: What the file holds.
        own: The network's state dict.
        path: The file, for the message.
        model_name: The network, for the message.
        prefix: What the names start with in the file, for the message.

    Raises:
        ValueError: If an entry is missing or has another shape; names the first one, and both shapes.
    """
    for key, value in own.items():
        if key not in weights:
            raise ValueError(f'{path} does not fit {model_name}: it has no {prefix}{key}')
        if weights[key].shape != value.shape:
            raise ValueError(
                f'{path} does not fit {model_name}: {prefix}{key} has shape {tuple(weights[key].shape)}, '
                f'expected {tuple(value.shape)}. Give the model_name that the file was made with'
            )
