"""Pictures out of a model, and out of its training."""

from ..engine.run_log import read_runs as read_runs
from .attention_maps import TokenView as TokenView
from .attention_maps import token_colours as token_colours
from .attention_maps import view_student as view_student
from .attention_maps import view_teacher as view_teacher
from .attention_sheet import SheetStyle as SheetStyle
from .attention_sheet import draw_attention_sheet as draw_attention_sheet
from .segmentation_overlay import class_colours as class_colours
from .segmentation_overlay import draw_overlay as draw_overlay
from .segmentation_overlay import save_overlay as save_overlay
from .shown_image import Point as Point
from .shown_image import ShownImage as ShownImage
from .shown_image import read_image as read_image
from .training_curves import draw_curves as draw_curves
from .viewed_model import ViewedModel as ViewedModel
from .viewed_model import view_models as view_models
