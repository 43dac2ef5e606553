"""From captions to token ids."""

from .tokenize import tokenize as tokenize
