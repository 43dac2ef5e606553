"""The names of Microsoft's BEiT and BEiT v2, for their fine-tuning and segmentation programs."""

from pathlib import Path

import torch
from timm.models.beit import Beit, checkpoint_filter_fn

from .student import Student
from .target import ExportTarget, Outputs
from .timm import beit_arguments, beit_in_timm_lacks, beit_names, outputs_of_timm


class MicrosoftTarget(ExportTarget):
    """A checkpoint as BEiT's pre-training writes it: ``model``, with the shared table and the mask token.

    BEiT's programs expand the shared table and resize tables when they load it. Their code is no package that
    could be run here, so the file is compared in timm's ``Beit``, which is made from it and keeps its names.
    """

    library = "Microsoft's BEiT (as timm's port of it)"
    suffixes = ('.pth',)

    def lacks(self, student: Student) -> list[str]:
        return beit_in_timm_lacks(student)

    def write(self, student: Student, path: Path) -> None:
        torch.save(dict(model=student.with_grid(beit_names(student))), path)

    def open(self, student: Student, path: Path) -> Outputs:
        model = Beit(**beit_arguments(student)).eval()
        weights = checkpoint_filter_fn(torch.load(path, map_location='cpu', weights_only=True), model)
        keys = model.load_state_dict(weights, strict=False)
        # A model without a head pools through a fresh `fc_norm`, which only its features would see.
        unknown = set(keys.unexpected_keys) - {'mask_token'}
        missing = {name for name in keys.missing_keys if not name.startswith('fc_norm.')}
        if unknown or missing:
            raise ValueError(f"timm's BEiT misses {sorted(missing)} and does not know {sorted(unknown)}")
        return outputs_of_timm(model, student)

    def how_to_open(self, student: Student, path: Path) -> str:
        return f"  python run_class_finetuning.py --finetune {path} ...    (in Microsoft's unilm/beit)"
