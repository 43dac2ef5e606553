"""Words: tokenizers, names of classes, templates around them, encodings of files."""

from .tokenize import tokenize as tokenize
