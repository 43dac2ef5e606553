"""Images rendered by the package."""

from .render import render_scene

__all__ = ['render_scene']
