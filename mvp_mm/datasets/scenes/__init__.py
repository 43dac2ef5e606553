"""Captioned scenes, rendered by the package: nothing to download, the same everywhere."""

from .collection import SceneCollection as SceneCollection
from .compose import DIFFICULTIES as DIFFICULTIES
from .compose import SPLITS as SPLITS
from .shapes import CLASSES as CLASSES
from .shapes import COLOURS as COLOURS
from .shapes import PALETTE as PALETTE
from .shapes import SHAPES as SHAPES
