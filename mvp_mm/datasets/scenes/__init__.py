"""Captioned scenes, rendered by the package: nothing to download, the same everywhere."""

from .collection import SceneCollection as SceneCollection
from .compose import DIFFICULTIES as DIFFICULTIES
from .compose import SPLITS as SPLITS
from .vocabulary import CLASSES as CLASSES
from .vocabulary import COLOURS as COLOURS
from .vocabulary import PALETTE as PALETTE
from .vocabulary import SHAPES as SHAPES
