"""Pictures out of a model, and out of its training."""

from ..engine.run_log import Run, read_run, read_runs
from .attention_maps import TokenView, patch_similarity, roll_out, token_colours, view_student, view_teacher
from .attention_sheet import SheetStyle, draw_attention_sheet
from .paper_figure import save_figure
from .segmentation_overlay import draw_overlay, save_overlay
from .shown_image import Point, ShownImage, read_image
from .training_curves import draw_curves
from .viewed_model import ViewedModel, view_models

__all__ = [
    'Point',
    'Run',
    'SheetStyle',
    'ShownImage',
    'TokenView',
    'ViewedModel',
    'draw_attention_sheet',
    'draw_curves',
    'draw_overlay',
    'patch_similarity',
    'read_image',
    'read_run',
    'read_runs',
    'roll_out',
    'save_figure',
    'save_overlay',
    'token_colours',
    'view_models',
    'view_student',
    'view_teacher',
]
