"""Find a weight file in a folder."""

from collections.abc import Sequence
from pathlib import Path

WEIGHT_SUFFIXES = ('.safetensors', '.bin', '.pt', '.pth')


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """Find the weight file in a folder.

    Args:
        folder: The folder.
        names: What such files are called, best first.

    Returns:
        The first file of these names, else the only weight file there is.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If there are several.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.iterdir() if path.suffix in WEIGHT_SUFFIXES)
    if not found:
        raise FileNotFoundError(f'there are no weights in {folder}: expected {" or ".join(names)}')
    if len(found) > 1:
        raise ValueError(
            f'{folder} holds several weight files ({", ".join(path.name for path in found)}): give one as '
            'model.target_generator.pretrained'
        )
    return found[0]
