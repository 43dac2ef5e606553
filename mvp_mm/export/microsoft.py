"""The names of Microsoft's BEiT and BEiT v2, for their fine-tuning and segmentation programs."""

from pathlib import Path

import torch
from timm.models.beit import Beit, checkpoint_filter_fn

from ..weights.names.beit import BEIT
from .student import ExportedStudent
from .target import ExportTarget, Outputs, unlike_beit
from .timm import lacks_in_timm, outputs_of_timm, timm_arguments


class MicrosoftTarget(ExportTarget):
    """A checkpoint as BEiT's pre-training writes it: ``model``, with the shared table and the mask token.

    BEiT's programs, which expand and resize tables as they load, are no package that could run here: the file
    is compared in timm's ``Beit``, which was made from them and keeps their names.
    """

    library = "Microsoft's BEiT (as timm's port of it)"
    suffixes = ('.pth',)

    def lacks(self, student: ExportedStudent) -> list[str]:
        return unlike_beit(student) + lacks_in_timm(student)

    def write(self, student: ExportedStudent, path: Path) -> None:
        weights = BEIT.from_mmpretrain(student.weights()) | student.head_weights('head.')
        torch.save(dict(model=student.with_grid(weights)), path)

    def open(self, student: ExportedStudent, path: Path) -> Outputs:
        model = Beit(**timm_arguments(student)).eval()
        weights = checkpoint_filter_fn(torch.load(path, map_location='cpu', weights_only=True), model)
        keys = model.load_state_dict(weights, strict=False)
        # A model without a head pools through a fresh `fc_norm`, which only its features would see.
        unknown = set(keys.unexpected_keys) - {'mask_token'}
        missing = {name for name in keys.missing_keys if not name.startswith('fc_norm.')}
        if unknown or missing:
            raise ValueError(f"timm's BEiT misses {sorted(missing)} and does not know {sorted(unknown)}")
        return outputs_of_timm(model, student)

    def how_to_open(self, student: ExportedStudent, path: Path) -> str:
        return f"  python run_class_finetuning.py --finetune {path} ...    (in Microsoft's unilm/beit)"
