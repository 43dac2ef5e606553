"""A numbered collection of scenes, rendered on the fly, or once and then read from a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmengine.logging import print_log

from ...whole_file import whole_file
from .caption import caption_of, visible_objects
from .compose import DIFFICULTIES, Scene, compose_scene
from .render import label_map, render_scene
from .shapes import COLOURS, SHAPES

RENDERING = 1  # raised whenever the same index would look different, so that old caches are left alone


class SceneDescription(NamedTuple):
    """A scene in words, and as labels of the object with most visible pixels."""

    caption: str
    shape: int  # index in SHAPES
    colour: int  # index in COLOURS


@dataclass(eq=False)
class SceneCollection:
    """Scenes 0 to count - 1 of a split.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'``; no two share a scene.
        count: Number of scenes.
        size: Side in pixels. Default 64.
        seed: Which collection. Default 0.
        difficulty: ``'easy'``, ``'standard'`` (default, the one of every figure here) or ``'hard'``.
        cache_dir: Folder for rendered pixels, ``size**2 * 4`` bytes a scene. Default None: render on the fly.

    Raises:
        ValueError: If an argument is outside of what is listed above.
    """

    split: str
    count: int
    size: int = 64
    seed: int = 0
    difficulty: str = 'standard'
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f'count={self.count}: a collection has one scene or more')
        if self.difficulty not in DIFFICULTIES:
            raise ValueError(f'difficulty={self.difficulty!r} is none of {", ".join(DIFFICULTIES)}')
        self.scene(0)  # raises if the split or the seed is wrong
        self._pixels = None if self.cache_dir is None else self._cached(Path(self.cache_dir).expanduser())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image, uint8 RGB ``(size, size, 3)``, and label map, uint8 ``(size, size)``."""
        if not 0 <= index < self.count:
            raise IndexError(f'scene {index} of {self.count}')
        if self._pixels is None:
            return self._render(index)
        pixels = np.array(self._pixels[index])
        return pixels[..., :3], pixels[..., 3]

    def scene(self, index: int) -> Scene:
        """Compose a scene: what stands where."""
        return compose_scene(self.seed, self.split, index, DIFFICULTIES[self.difficulty])

    def describe(self, index: int) -> SceneDescription:
        """Describe a scene in words and as labels."""
        items = visible_objects(self.scene(index))
        shape, colour = SHAPES.index(items[0].shape), tuple(COLOURS).index(items[0].colour)
        return SceneDescription(caption_of(items), shape, colour)

    def _render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        scene = self.scene(index)
        image, owners = render_scene(scene, self.size)
        return image, label_map(scene, owners)

    def _cached(self, folder: Path) -> np.ndarray:
        about = (RENDERING, self.split, self.count, self.size, self.seed, self.difficulty)
        path = folder / f'scenes_{"_".join(map(str, about))}.npy'
        if not path.is_file():
            print_log(f'Rendering {self.count} scenes into {path}', 'current')
            folder.mkdir(parents=True, exist_ok=True)
            # Of several processes each writes the same bytes.
            with whole_file(path, 'free some space, or set cache_dir to another disk') as unfinished:
                shape = (self.count, self.size, self.size, 4)
                pixels = np.lib.format.open_memmap(unfinished, mode='w+', dtype=np.uint8, shape=shape)
                for index in range(self.count):
                    pixels[index, ..., :3], pixels[index, ..., 3] = self._render(index)
                pixels.flush()
        return np.load(path, mmap_mode='r')
