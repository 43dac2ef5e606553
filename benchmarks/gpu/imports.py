"""Everything that the stages import, so that they are forked with it and begin at once."""

import mmpretrain.models  # noqa: F401
import mmseg.models  # noqa: F401
import open_clip  # noqa: F401
import timm  # noqa: F401
import torch._dynamo
import torch._inductor.compile_fx  # noqa: F401
import torch.profiler  # noqa: F401
import torch.utils.tensorboard  # noqa: F401
from faults import tiny_run, training_process  # noqa: F401

from mvp_mm import datasets, engine, evaluation, models  # noqa: F401

from .. import data, ideas, pretrain_report, pretrain_variants, segmentation_variants  # noqa: F401
