"""What every teacher has in common: frozen, hidden from training, aligned with the student's grid."""

import copy
from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.gelu import use_compiled_gelu
from ..compilation import compiles, require_choice
from .channel_statistics import channel_statistics
from .last_attention import attention_in_a_run
from .probe import probe

Grid = tuple[int, int]
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class TargetGenerator(BaseModule):
    """A frozen teacher that gives one target vector for CLS and for every patch of the student.

    The teacher's network is no submodule: it stays out of ``state_dict()``, ``parameters()``, DDP and
    MMEngine's weight initialisation, and in eval mode, but follows ``.to()`` and the images' device.

    Args:
        teacher: The network, float32.
        teacher_patch_size: Its patch side in pixels.
        teacher_image_size: ``(H, W)`` it was trained at.
        teacher_mean: Channel means of the images it was trained on, 0–1 scale.
        teacher_std: Their channel standard deviations, 0–1 scale.
        patch_size: The student's patch side in pixels. Default 16 (paper §3.3).
        grid_matching: What to resize where the teacher's patch grid is not the student's: ``'input'``
            (the crop, so that the grids are equal), ``'tokens'`` (the teacher runs at its own size and
            its token map is resized) or ``'auto'`` (default): the input where that needs no more pixels
            than the crop has, else the tokens.
        dtype: ``'auto'`` (default: the autocast dtype inside of autocast, else float32), ``'float32'``,
            ``'bfloat16'`` or ``'float16'``: what the teacher computes in and returns.
        student_mean: Statistics the crop was normalised by, 0–255 scale. Default ImageNet.
        student_std: See ``student_mean``.
        can_resize_input: Whether the network takes other input sizes than its own. Default True.
        compile_blocks: Compile the network's blocks: True, False or ``'auto'`` (default), as
            :class:`MVPViT`'s option of that name.

    Attributes:
        out_channels (int): Width D of a target.

    Raises:
        ValueError: If an argument is outside of what is listed above, or the network does not give one
            token for CLS and one for every patch.
    """

    def __init__(
        self,
        teacher: nn.Module,
        teacher_patch_size: int,
        teacher_image_size: tuple[int, int],
        teacher_mean: Sequence[float],
        teacher_std: Sequence[float],
        patch_size: int = 16,
        grid_matching: str = 'auto',
        dtype: str = 'auto',
        student_mean: Sequence[float] = IMAGENET_MEAN,
        student_std: Sequence[float] = IMAGENET_STD,
        can_resize_input: bool = True,
        compile_blocks: bool | str = 'auto',
    ) -> None:
        super().__init__()
        if grid_matching not in ('auto', 'input', 'tokens'):
            raise ValueError(f"grid_matching={grid_matching!r} is none of 'auto', 'input', 'tokens'")
        if grid_matching == 'input' and not can_resize_input:
            raise ValueError(
                f"{type(teacher).__name__} runs at its own input size only: use grid_matching='tokens'"
            )
        if dtype not in ('auto', 'float32', 'bfloat16', 'float16'):
            raise ValueError(f"dtype={dtype!r} is none of 'auto', 'float32', 'bfloat16', 'float16'")
        require_choice(compile_blocks, 'compile_blocks')
        self._statistics = tuple(
            torch.tensor(channel_statistics(values, name, is_std, scale), dtype=torch.float32)
            for values, name, is_std, scale in (
                (student_mean, 'student_mean', False, 255),
                (student_std, 'student_std', True, 255),
                (teacher_mean, 'teacher_mean', False, 1),
                (teacher_std, 'teacher_std', True, 1),
            )
        )
        self.patch_size = patch_size
        self.can_resize_input = can_resize_input
        self.teacher_patch_size = teacher_patch_size
        self.teacher_image_size = tuple(teacher_image_size)
        self.grid_matching = grid_matching
        self.dtype = dtype
        self.compile_blocks = compile_blocks
        self._announced: set[Grid] = set()
        use_compiled_gelu(teacher)
        # Plain containers, which nn.Module does not look into. One copy of the weights a dtype, made
        # when first needed, because casting back and forth would lose precision.
        self._teachers = {torch.float32: teacher.requires_grad_(False).eval()}
        self._compiled_teachers: dict[torch.dtype, nn.Module] = {}
        images, tokens = probe(self.encode, teacher, teacher_patch_size, self.teacher_image_size)
        self.check(images, tokens)
        self.out_channels = tokens.shape[-1]

    def check(self, images: Tensor, tokens: Tensor) -> None:
        """Hook for subclasses: compare ``tokens`` of ``images`` with the network's own output."""

    def _own_grid(self) -> Grid:
        return tuple(side // self.teacher_patch_size for side in self.teacher_image_size)

    @property
    def teacher(self) -> nn.Module:
        """The frozen network in float32."""
        return self._teachers[torch.float32]

    @property
    def student_mean(self) -> Tensor:
        """Means that the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[0]

    @property
    def student_std(self) -> Tensor:
        """Standard deviations that the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[1]

    def _apply(self, fn, recurse: bool = True) -> 'TargetGenerator':
        super()._apply(fn, recurse)
        # Follow the device, never the dtype: that is this class's own business.
        self._follow(fn(self._statistics[0]).device)
        return self

    def _follow(self, device: torch.device) -> None:
        """Move to a device. FSDP moves the parameters it knows and never calls ``.to()``."""
        if self._statistics[0].device == device:
            return
        self._statistics = tuple(values.to(device) for values in self._statistics)
        for teacher in self._teachers.values():
            teacher.to(device)
        self._compiled_teachers.clear()

    def __getstate__(self) -> dict:
        # What is compiled is bound to this object.
        return dict(super().__getstate__(), _compiled_teachers={})

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Targets of a batch.

        Args:
            images: The student's crop, ``(B, 3, H, W)``, normalised by the student's statistics.

        Returns:
            ``(B, 1+M, D)``, CLS first, M = (H / patch_size) * (W / patch_size); float32 or the dtype
            asked for; no gradient.

        Raises:
            ValueError: If H or W is no multiple of the student's patch size.
        """
        self._follow(images.device)
        dtype = self._compute_dtype(images.device.type)
        compile_now = compiles(self.compile_blocks, images, self.training)
        teacher = self._compiled_teacher(dtype) if compile_now else self._teacher_in(dtype)
        with torch.autocast(images.device.type, enabled=False):
            images, run_grid, grid = self._as_the_teacher_sees(images)
            tokens = self.encode(teacher, images.to(dtype), run_grid)
            if run_grid != grid:
                tokens = self._resized_tokens(tokens, run_grid, grid)
        return tokens

    @torch.no_grad()
    def cls_attention(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Attention of the teacher's last layer from CLS to the patches, for looking at it.

        Args:
            images: As for ``forward``.

        Returns:
            Probabilities ``(B, heads, h * w)``, float32, which sum to one together with those of CLS to
            itself and to registers; and the teacher's own patch grid ``(h, w)``.

        Raises:
            ValueError: If this teacher's attention cannot be had.
        """
        self._follow(images.device)
        module = self.attention_module(self.teacher)
        if module is None:
            raise ValueError(f'the attention of a {type(self).__name__} cannot be had: it has none')
        with torch.autocast(images.device.type, enabled=False):
            images, grid, _ = self._as_the_teacher_sees(images)
            attention = attention_in_a_run(module, lambda: self.encode(self.teacher, images, grid))
        patches = grid[0] * grid[1]
        if attention.shape[-1] <= patches:
            raise ValueError(f'the attention of a {type(module).__name__} is not among tokens')
        return attention[:, :, 0, -patches:], grid

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        """Hook for subclasses: the attention of the last layer, its tokens CLS first and patches last."""
        return None

    def _as_the_teacher_sees(self, images: Tensor) -> tuple[Tensor, Grid, Grid]:
        """Re-normalise and resize the student's crop; also the patch grids of teacher and student."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'a crop of {height}x{width} has no whole number of {self.patch_size}-pixel patches'
            )
        grid = (height // self.patch_size, width // self.patch_size)
        images = self._renormalised(images)
        run_size, run_grid = self._running_size(images.shape[-2:], grid)
        if run_size != (height, width):
            images = F.interpolate(images, run_size, mode='bicubic', antialias=True)
        return images, run_grid, grid

    @abstractmethod
    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Tokens of the teacher: images ``(B, 3, h * p_t, w * p_t)`` to ``(B, 1 + h * w, D)``."""

    def _compute_dtype(self, device_type: str) -> torch.dtype:
        if self.dtype != 'auto':
            return getattr(torch, self.dtype)
        if torch.is_autocast_enabled(device_type):
            return torch.get_autocast_dtype(device_type)
        return torch.float32

    def blocks(self, teacher: nn.Module) -> nn.ModuleList | list:
        """Hook for subclasses: the network's repeated layers, if it has such."""
        return []

    def _teacher_in(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._teachers:
            self._teachers[dtype] = copy.deepcopy(self.teacher).to(dtype)
        return self._teachers[dtype]

    def _compiled_teacher(self, dtype: torch.dtype) -> nn.Module:
        """A network with the weights of :meth:`_teacher_in`, its blocks compiled."""
        if dtype not in self._compiled_teachers:
            teacher = self._teacher_in(dtype)
            shared = {id(tensor): tensor for tensor in [*teacher.parameters(), *teacher.buffers()]}
            self._compiled_teachers[dtype] = twin = copy.deepcopy(teacher, shared)
            for block in self.blocks(twin):
                block.compile()
        return self._compiled_teachers[dtype]

    def _renormalised(self, images: Tensor) -> Tensor:
        mean_s, std_s, mean_t, std_t = (values.view(3, 1, 1) for values in self._statistics)
        scale = std_s / (255 * std_t)
        shift = (mean_s / 255 - mean_t) / std_t
        return torch.addcmul(shift, images.float(), scale)

    def _running_size(self, size: Grid, grid: Grid) -> tuple[Grid, Grid]:
        """Input size and patch grid that the teacher runs at for a crop."""
        size = tuple(size)
        needed = tuple(cells * self.teacher_patch_size for cells in grid)
        own_grid = self._own_grid()
        resize_input = self.grid_matching == 'input' or (
            self.grid_matching == 'auto'
            and self.can_resize_input
            and all(n <= s for n, s in zip(needed, size, strict=True))
        )
        if resize_input or own_grid == grid:
            run_size, run_grid = needed, grid
        else:
            run_size, run_grid = self.teacher_image_size, own_grid
        if not (run_size == size and run_grid == own_grid == grid) and size not in self._announced:
            self._announced.add(size)
            what = 'the crop is resized for it'
            if run_grid != grid:
                what = f'its token map is resized to {grid[0]}x{grid[1]}'
            elif run_grid != own_grid:
                what = 'its position embedding is resized'
            print_log(
                f'{type(self).__name__}: the student has a {grid[0]}x{grid[1]} grid of a '
                f'{size[0]}x{size[1]} crop; the teacher (patch {self.teacher_patch_size}, trained at '
                f'{self.teacher_image_size[0]}x{self.teacher_image_size[1]}) sees it at '
                f'{run_size[0]}x{run_size[1]}, a {run_grid[0]}x{run_grid[1]} grid; {what}.',
                logger='current',
            )
        return run_size, run_grid

    @staticmethod
    def _resized_tokens(tokens: Tensor, grid: Grid, wanted: Grid) -> Tensor:
        cls, patches = tokens[:, :1], tokens[:, 1:]
        patches = patches.transpose(1, 2).unflatten(2, grid).float()
        patches = F.interpolate(patches, wanted, mode='bilinear', antialias=True)
        return torch.cat([cls, patches.flatten(2).transpose(1, 2).to(cls.dtype)], dim=1)
