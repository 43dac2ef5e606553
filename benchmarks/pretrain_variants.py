"""One training step of this package and of its nearest peers, on the same images, with the same optimiser.

Weights are random: a step's time does not depend on them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import open_clip
import timm
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_mm.datasets.samplers.sample_index import seeded_draws
from mvp_mm.datasets.transforms.block_mask import BlockwiseMask
from mvp_mm.models import MVP
from mvp_mm.models.compilation import compiled, compiles

from .gemm_floor import step_gemms
from .interleaved import Phases

CONFIGS = Path(__file__).parents[1] / 'configs'
BEITV2_CONFIG = 'mmpretrain::beitv2/beitv2_beit-base-p16_8xb256-amp-coslr-300e_in1k.py'
SIDE, GRID, NUM_MASKED = 224, 14, 75  # paper §3.3
# options that say what is compiled
COMPILED = ('model.backbone.compile_blocks', 'model.target_generator.compile_blocks', 'model.compile_loss')
WIDTHS = {'base': (768, 12, 12), 'large': (1024, 24, 16)}


def blockwise_masks(batch: int) -> Tensor:
    """Masks of the recipe, bool ``(B, 14, 14)``."""
    draw = BlockwiseMask(GRID, NUM_MASKED, min_num_patches=16).draw
    with seeded_draws(0):
        return torch.stack([torch.from_numpy(draw()) for _ in range(batch)])


class TrainingStep(ABC):
    """A whole step: images to the device, targets, loss, gradients, clipping, optimiser.

    Args:
        batch: Images.
        device: Where.
        dtype: bf16 (by autocast) or float32.
        arch: ``'base'`` or ``'large'``: the student.
    """

    says = ''
    keeps_freed_memory = False  # as its own trainings do on a CPU

    def __init__(self, batch: int, device: torch.device, dtype: torch.dtype, arch: str = 'base') -> None:
        self.batch = batch
        self.device = device
        self.dtype = dtype
        self.arch = arch
        torch.manual_seed(0)
        self.crops = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
        self.mask = blockwise_masks(batch)
        if device.type == 'cuda':  # as a loader with pin_memory=True hands them over
            self.crops, self.mask = self.crops.pin_memory(), self.mask.pin_memory()
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Make model and optimiser."""

    @abstractmethod
    def __call__(self) -> Tensor:
        """Run a step and return its loss."""

    @property
    def flops(self) -> int:
        """Of the matrix products of a step."""
        return sum(gemm.flops for gemm in step_gemms(self.batch, WIDTHS[self.arch]))

    def autocast(self) -> torch.autocast | nullcontext:
        """bf16, where the step is to run in it."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)


class ThisPackage(TrainingStep):
    """``configs/mvp/vit{b,l}16_in1k.py``, run by its own optimiser wrapper.

    Args:
        *args: See :class:`TrainingStep`.
        options: Config options, to try variants.
    """

    says = 'this package'
    keeps_freed_memory = True
    options: dict = {}

    def build(self) -> None:
        """Make model and optimiser."""
        init_default_scope('mmpretrain')
        cfg = Config.fromfile(CONFIGS / 'mvp' / f'vit{self.arch[0]}16_in1k.py')
        cfg.merge_from_dict({'model.target_generator.pretrained': None, **self.options})
        self.model = MODELS.build(cfg.model).to(self.device).train()
        precision = 'bfloat16' if self.dtype == torch.bfloat16 else 'float32'
        self.wrapper = build_optim_wrapper(self.model, dict(cfg.optim_wrapper, precision=precision))

    def __call__(self) -> Tensor:
        """Run a step and return its loss."""
        return self.model.train_step(dict(inputs=self.crops, mask=self.mask), self.wrapper)['loss']

    def timed(self, phases: Phases) -> None:
        """A step whose phases are timed."""
        model, wrapper = self.model, self.wrapper
        with phases('step'):
            with wrapper.optim_context(model):
                with phases('input'):
                    data = model.data_preprocessor(dict(inputs=self.crops, mask=self.mask), True)
                with phases('teacher'):
                    targets = model.extract_targets(data['inputs'])
                with phases('student forward'):
                    predictions = model.predict_tokens(data['inputs'], data['mask'])
                with phases('loss'):
                    now = compiles(model.compile_loss, predictions, model.training)
                    compare = compiled(MVP.compare_tokens) if now else MVP.compare_tokens
                    loss = compare(model, predictions, targets, data['mask'])['loss']
            with phases('backward'):
                wrapper.backward(wrapper.scale_loss(loss))
            with phases('optimiser'):
                wrapper.step()
                wrapper.zero_grad()


class Eager(ThisPackage):
    """This package with nothing compiled, which is the default on a CPU."""

    says = 'this package, eager'
    options = dict.fromkeys(COMPILED, False)


class Compiled(ThisPackage):
    """This package with student, teacher and loss compiled, which is the default on CUDA."""

    says = 'this package, compiled'
    options = dict.fromkeys(COMPILED, True)


class MMPretrainBEiTv2(TrainingStep):
    """mmpretrain's BEiT v2 pre-training as its config has it: VQ-KD teacher, ViT-B.

    The nearest peer that exists. On CUDA with MMEngine's own AMP wrapper in bf16; on a CPU, which that
    wrapper refuses, with autocast around the forward pass.
    """

    says = "mmpretrain's BEiT v2"

    def build(self) -> None:
        """Make model and optimiser."""
        if self.arch != 'base':
            raise ValueError(
                "mmpretrain's BEiT v2 is compared at ViT-B only: its VQ-KD config is of that size"
            )
        cfg = get_config(BEITV2_CONFIG)
        teacher = dict(cfg.model.target_generator, init_cfg=None)
        model = dict(cfg.model, target_generator=teacher, data_preprocessor=cfg.data_preprocessor)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.model: BaseModel = MODELS.build(model).to(self.device).train()
            settings = dict(cfg.optim_wrapper)
            if self.device.type == 'cuda' and self.dtype == torch.bfloat16:
                settings.update(dtype='bfloat16')
            else:
                settings.pop('loss_scale')
                settings.update(type='OptimWrapper')
            self.wrapper: OptimWrapper = build_optim_wrapper(self.model, settings)
        # a trained codebook is there from the beginning
        self.model.target_generator.quantize.embedding.initted.fill_(True)
        self.samples = [DataSample() for _ in range(self.batch)]
        for sample, mask in zip(self.samples, self.mask, strict=True):
            sample.set_field(mask, 'mask')

    def __call__(self) -> Tensor:
        """Run a step and return its loss."""
        samples = [sample.clone() for sample in self.samples]
        data = self.model.data_preprocessor(
            dict(inputs=[self.crops, self.crops], data_samples=samples), training=True
        )
        on_cuda = self.device.type == 'cuda'
        context = self.wrapper.optim_context(self.model) if on_cuda else self.autocast()
        with context:
            losses = self.model(**data, mode='loss')
        loss, _ = self.model.parse_losses(losses)
        self.wrapper.update_params(loss)
        return loss

    @property
    def flops(self) -> int:
        """Two more layers, two heads over 8192 codes on the masked tokens, and the look-up of the codes."""
        width, codes, code_width, patches = 768, 8192, 32, GRID**2
        layer = 24 * width**2 * (patches + 1) + 4 * width * (patches + 1) ** 2
        embedding = 2 * patches * width**2
        heads = 2 * 2 * NUM_MASKED * width * codes
        student = 3 * (14 * layer + heads) + 2 * embedding
        look_up = 2 * patches * (width**2 + width * code_width + code_width * codes)
        return self.batch * (student + 12 * layer + embedding + look_up)


class TimmAndOpenCLIP(TrainingStep):
    """MVP written the straightforward way: timm's BEiT, open_clip's vision branch, autocast over both."""

    says = 'timm BEiT + open_clip'

    def build(self) -> None:
        """Make model and optimiser."""
        self.model = _PlainMVP(self.arch).to(self.device).train()
        self.encode = _clip_tokens
        self.teacher = open_clip.create_model('ViT-B-16-quickgelu', pretrained=None).visual
        self.teacher.to(self.device).requires_grad_(False).eval()
        statistics = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
        clip = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        self.statistics, self.clip_statistics = (
            [torch.tensor(values, device=self.device).view(3, 1, 1) * scale for values in pair]
            for pair, scale in ((statistics, 1), (clip, 255))
        )
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        groups = [dict(params=decayed), dict(params=others, weight_decay=0.0)]
        self.optimizer = torch.optim.AdamW(groups, lr=1.5e-3, weight_decay=0.05)

    def __call__(self) -> Tensor:
        """Run a step and return its loss."""
        images = self.crops.to(self.device, non_blocking=True).float()
        mask = self.mask.to(self.device, non_blocking=True)
        student, teacher = ((images - mean) / std for mean, std in (self.statistics, self.clip_statistics))
        with self.autocast():
            with torch.no_grad():
                target = self.encode(self.teacher, teacher)
            predicted = self.model(student, mask)
            loss = -F.cosine_similarity(predicted.float(), target.float(), dim=-1).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss


class PlainCompiled(TimmAndOpenCLIP):
    """The same with both networks compiled as a whole."""

    says = 'timm BEiT + open_clip, both compiled'

    def build(self) -> None:
        """Make model and optimiser."""
        super().build()
        self.model.compile()
        self.encode = torch.compile(_clip_tokens)


class _PlainMVP(nn.Module):
    def __init__(self, arch: str) -> None:
        super().__init__()
        self.vit = timm.create_model(
            f'beit_{arch}_patch16_224',
            num_classes=0,
            global_pool='',
            drop_path_rate=0.1,
            use_rel_pos_bias=False,
            use_shared_rel_pos_bias=True,
        )
        self.mask_token = nn.Parameter(torch.zeros(self.vit.num_features))
        self.fc = nn.Linear(self.vit.num_features, 512)

    def forward(self, images: Tensor, mask: Tensor) -> Tensor:
        vit = self.vit
        patches = vit.patch_embed(images)
        patches = torch.where(mask.flatten(1)[..., None], self.mask_token.to(patches.dtype), patches)
        tokens = torch.cat([vit.cls_token.expand(len(images), -1, -1), patches], dim=1)
        bias = vit.rel_pos_bias()
        for block in vit.blocks:
            tokens = block(tokens, shared_rel_pos_bias=bias)
        return self.fc(vit.norm(tokens))


def _clip_tokens(visual: nn.Module, images: Tensor) -> Tensor:
    tokens = visual.conv1(images).flatten(2).transpose(1, 2)
    cls = visual.class_embedding.to(tokens.dtype).expand(len(images), 1, -1)
    tokens = torch.cat([cls, tokens], dim=1) + visual.positional_embedding
    return visual.ln_post(visual.transformer(visual.ln_pre(tokens))) @ visual.proj


class MemoryGivenBack(ThisPackage):
    """This package without :func:`keep_freed_memory`."""

    says = 'this package, freed memory given back'
    keeps_freed_memory = False


PEERS: dict[str, type[TrainingStep]] = {
    'beitv2': MMPretrainBEiTv2,
    'plain': TimmAndOpenCLIP,
    'plain_compiled': PlainCompiled,
    'eager': Eager,
    'compiled': Compiled,
    'given_back': MemoryGivenBack,
}


def teacher_variants(batch: int, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """The teacher alone: this package's, and open_clip's own with weights of the same type.

    Args:
        batch: Images.
        device: Where.
        dtype: Of the weights.

    Returns:
        Two pieces of work.
    """
    init_default_scope('mmpretrain')
    name = 'ViT-B-16-quickgelu'
    ours = MODELS.build(dict(type='CLIPTargetGenerator', model_name=name, pretrained=None)).to(device)
    ours.dtype = {torch.bfloat16: 'bfloat16', torch.float32: 'float32'}[dtype]
    theirs = open_clip.create_model(name, pretrained=None).visual.to(device, dtype)
    theirs.requires_grad_(False).eval()
    images = torch.randn(batch, 3, SIDE, SIDE, device=device)

    @torch.no_grad()
    def open_clips() -> Tensor:
        return _clip_tokens(theirs, images.to(dtype))

    return {'mvp_mm': lambda: ours(images), 'open_clip': open_clips}
