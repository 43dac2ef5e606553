"""Captioned scenes, rendered by the package: nothing to download, the same everywhere."""

from .caption import caption_of, visible_objects
from .collection import SceneCollection, SceneDescription
from .compose import DIFFICULTIES, SPLITS, Difficulty, Scene, SceneObject, compose_scene
from .render import label_map, render_scene
from .vocabulary import CLASSES, COLOURS, PALETTE, SHAPES

__all__ = [
    'CLASSES',
    'COLOURS',
    'DIFFICULTIES',
    'Difficulty',
    'PALETTE',
    'SHAPES',
    'SPLITS',
    'Scene',
    'SceneCollection',
    'SceneDescription',
    'SceneObject',
    'caption_of',
    'compose_scene',
    'label_map',
    'render_scene',
    'visible_objects',
]
