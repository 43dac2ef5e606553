"""From captions to token ids."""

from .tokenize import tokenize

__all__ = ['tokenize']
