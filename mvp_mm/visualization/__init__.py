"""Pictures out of a model."""

from .segmentation_overlay import draw_overlay, save_overlay

__all__ = ['draw_overlay', 'save_overlay']
