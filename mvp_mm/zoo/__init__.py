"""Models by name."""

from .hub import get_model, list_models

__all__ = ['get_model', 'list_models']
