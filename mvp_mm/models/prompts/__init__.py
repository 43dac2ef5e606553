"""Prompt learners: CoOp and CoCoOp over any model that speaks."""

from .saved_prompts import load_prompts as load_prompts
from .saved_prompts import nearest_words as nearest_words
from .saved_prompts import save_prompts as save_prompts
