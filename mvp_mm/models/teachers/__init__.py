"""How the embedded teachers were made."""

from .clip_teacher import CLIPTeacher
from .dino_teacher import DINOTeacher
from .word_tokenizer import WordTokenizer

__all__ = ['CLIPTeacher', 'DINOTeacher', 'WordTokenizer']
