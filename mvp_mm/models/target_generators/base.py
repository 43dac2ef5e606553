"""Base class of teachers: frozen, hidden from training, aligned with the student's patch grid."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ...weights.read import first_line
from ..backbones.gelu import use_compiled_gelu
from ..compilation import compiles, require_choice
from .last_attention import attention_in_a_run
from .teacher_weights import require_statistics

Grid = tuple[int, int]
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class TargetGenerator(BaseModule):
    """Frozen teacher: one target vector for CLS and for each patch of the student.

    The teacher's network is not a submodule. So ``state_dict()``, ``parameters()``, DDP and MMEngine's
    initialisation do not see it and it stays in eval mode, but it follows ``.to()`` and the images' device.

    Args:
        teacher: The network, float32.
        teacher_patch_size: Side of its patches in pixels.
        teacher_image_size: ``(H, W)`` it was trained at.
        teacher_mean: Channel means of its training images, 0–1 scale.
        teacher_std: Channel standard deviations of its training images, 0–1 scale.
        patch_size: Side of the student's patches in pixels. Default 16 (paper §3.3).
        grid_matching: What to resize if the patch grids of teacher and student differ: ``'input'`` (the
            crop, until the grids are equal), ``'tokens'`` (the teacher's token map; the teacher runs at its
            own size) or ``'auto'`` (default): the input if that needs no more pixels than the crop has,
            else the tokens.
        dtype: Dtype to compute in and return: ``'auto'`` (default: autocast's, or float32 outside of
            autocast), ``'float32'``, ``'bfloat16'`` or ``'float16'``.
        student_mean: Channel means the crop was normalised by, 0–255 scale. Default ImageNet.
        student_std: Channel standard deviations the crop was normalised by, 0–255 scale.
        can_resize_input: Whether the network accepts other input sizes than its own. Default True.
        compile_blocks: Compile the network's blocks: True, False or ``'auto'`` (default), as for
            :class:`MVPViT`.

    Attributes:
        out_channels (int): Width D of a target.

    Raises:
        ValueError: If an argument is not one of the above, or the network does not return one token for
            CLS and one for each patch.
    """

    def __init__(
        self,
        teacher: nn.Module,
        teacher_patch_size: int,
        teacher_image_size: Sequence[int],
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
            torch.tensor(require_statistics(values, name, scale), dtype=torch.float32)
            for values, name, scale in (
                (student_mean, 'student_mean', 255),
                (student_std, 'student_std', 255),
                (teacher_mean, 'teacher_mean', 1),
                (teacher_std, 'teacher_std', 1),
            )
        )
        height, width = teacher_image_size
        self.patch_size = patch_size
        self.can_resize_input = can_resize_input
        self.teacher_patch_size = teacher_patch_size
        self.teacher_image_size = (height, width)
        self.grid_matching = grid_matching
        self.dtype = dtype
        self.compile_blocks = compile_blocks
        self._announced: set[Grid] = set()
        use_compiled_gelu(teacher)
        # Plain dicts, which nn.Module does not look into. Each dtype has its own copy of the weights, made
        # at first use: casting back and forth would lose precision.
        self._teachers = {torch.float32: teacher.requires_grad_(False).eval()}
        self._compiled_teachers: dict[torch.dtype, nn.Module] = {}
        name = type(teacher).__name__
        images, tokens = probe(self.encode, teacher, teacher_patch_size, teacher_image_size, name)
        self.check(images, tokens)
        self.out_channels = tokens.shape[-1]

    def check(self, images: Tensor, tokens: Tensor) -> None:
        """Compare ``tokens`` of ``images`` with the network's own output (hook for subclasses)."""

    @abstractmethod
    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Encode ``(B, 3, h * p_t, w * p_t)``, normalised for the teacher, to ``(B, 1 + h * w, D)``."""

    def blocks(self, teacher: nn.Module) -> nn.ModuleList | list:
        """Return the network's repeated layers, if any (hook for subclasses)."""
        return []

    def attention_module(self, teacher: nn.Module) -> nn.Module | None:
        """Return the last layer's attention; its tokens are CLS first, patches last (hook for subclasses)."""
        return None

    @property
    def teacher(self) -> nn.Module:
        """The frozen network in float32."""
        return self._teachers[torch.float32]

    @property
    def student_mean(self) -> Tensor:
        """Means the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[0]

    @property
    def student_std(self) -> Tensor:
        """Standard deviations the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'TargetGenerator':
        super()._apply(fn, recurse)
        # Follow the device only: forward chooses the dtype.
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
        # Compiled networks are bound to this object.
        return dict(super().__getstate__(), _compiled_teachers={})

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the targets of a batch.

        Args:
            images: The student's crop, ``(B, 3, H, W)``, normalised by the student's statistics.

        Returns:
            ``(B, 1+M, D)``, CLS first, M = (H / patch_size) * (W / patch_size), in ``dtype``, without
            gradient.

        Raises:
            ValueError: If H or W is not a multiple of the student's patch size.
        """
        self._follow(images.device)
        dtype = self._compute_dtype(images.device.type)
        compile_now = compiles(self.compile_blocks, images, self.training)
        teacher = self._compiled_teacher(dtype) if compile_now else self._teacher_in(dtype)
        with torch.autocast(images.device.type, enabled=False):
            images, run_grid, grid = self._as_the_teacher_sees(images)
            tokens = self.encode(teacher, images.to(dtype), run_grid)
            if run_grid == grid:
                return tokens
            patches = tokens[:, 1:].transpose(1, 2).unflatten(2, run_grid).float()
            patches = F.interpolate(patches, grid, mode='bilinear', antialias=True)
            return torch.cat([tokens[:, :1], patches.flatten(2).transpose(1, 2).to(tokens.dtype)], dim=1)

    @torch.no_grad()
    def cls_attention(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Compute the last layer's attention from CLS to the patches of images as for :meth:`forward`.

        Returns:
            Probabilities ``(B, heads, h * w)``, float32, which sum to one together with those from CLS to
            itself and to registers; and the teacher's patch grid ``(h, w)``.

        Raises:
            ValueError: If this teacher has no attention that can be recomputed.
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

    def _compute_dtype(self, device_type: str) -> torch.dtype:
        if self.dtype != 'auto':
            return getattr(torch, self.dtype)
        if torch.is_autocast_enabled(device_type):
            return torch.get_autocast_dtype(device_type)
        return torch.float32

    def _teacher_in(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._teachers:
            self._teachers[dtype] = copy.deepcopy(self.teacher).to(dtype)
        return self._teachers[dtype]

    def _compiled_teacher(self, dtype: torch.dtype) -> nn.Module:
        """Return a network with compiled blocks that shares the weights of :meth:`_teacher_in`."""
        if dtype not in self._compiled_teachers:
            teacher = self._teacher_in(dtype)
            shared: dict[int, Any] = {id(value): value for value in teacher.parameters()}
            shared |= {id(value): value for value in teacher.buffers()}
            self._compiled_teachers[dtype] = twin = copy.deepcopy(teacher, shared)
            for block in self.blocks(twin):
                block.compile()
        return self._compiled_teachers[dtype]

    def _as_the_teacher_sees(self, images: Tensor) -> tuple[Tensor, Grid, Grid]:
        """Renormalise and resize the crop; also return the patch grids of teacher and student."""
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f'a crop of {height}x{width} has no whole number of {self.patch_size}-pixel patches'
            )
        grid = (height // self.patch_size, width // self.patch_size)
        images = self._renormalised(images)
        run_size, run_grid = self._running_size((height, width), grid)
        if run_size != (height, width):
            images = F.interpolate(images, run_size, mode='bicubic', antialias=True)
        return images, run_grid, grid

    def _renormalised(self, images: Tensor) -> Tensor:
        mean_s, std_s, mean_t, std_t = (values.view(3, 1, 1) for values in self._statistics)
        return torch.addcmul((mean_s / 255 - mean_t) / std_t, images.float(), std_s / (255 * std_t))

    def _running_size(self, size: Grid, grid: Grid) -> tuple[Grid, Grid]:
        """Choose the input size and the patch grid the teacher runs at; log once where they differ."""
        patch, own_size = self.teacher_patch_size, self.teacher_image_size
        needed = (grid[0] * patch, grid[1] * patch)
        own_grid = (own_size[0] // patch, own_size[1] // patch)
        fits = needed[0] <= size[0] and needed[1] <= size[1]
        resize_input = self.grid_matching == 'input' or (
            self.grid_matching == 'auto' and self.can_resize_input and fits
        )
        run_size, run_grid = (needed, grid) if resize_input or own_grid == grid else (own_size, own_grid)
        if not (run_size == size and run_grid == own_grid == grid) and size not in self._announced:
            self._announced.add(size)
            resized = 'its position embedding' if run_grid != own_grid else 'the crop'
            resized = resized if run_grid == grid else f'its token map, to {_times(grid)},'
            print_log(
                f'{type(self).__name__}: the student has a {_times(grid)} grid of a {_times(size)} crop; '
                f'the teacher (patch {patch}, trained at {_times(own_size)}) sees it at {_times(run_size)}, '
                f'a {_times(run_grid)} grid; {resized} is resized.',
                logger='current',
            )
        return run_size, run_grid


@torch.no_grad()
def probe(
    encode: Callable[[nn.Module, Tensor, Grid], Tensor],
    teacher: nn.Module,
    patch_size: int,
    image_size: Sequence[int],
    name: str,
) -> tuple[Tensor, Tensor]:
    """Encode one random image of the teacher's size; return it and its tokens ``(1, 1 + h * w, D)``.

    Raises:
        ValueError: If the network does not return one token for CLS and one for each patch, or fails.
    """
    grid = (image_size[0] // patch_size, image_size[1] // patch_size)
    size = (grid[0] * patch_size, grid[1] * patch_size)
    images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    images = images.to(next((parameter.device for parameter in teacher.parameters()), 'cpu'))
    expected = 1 + grid[0] * grid[1]
    try:
        tokens = encode(teacher, images, grid)
        if not isinstance(tokens, Tensor) or tokens.ndim != 3 or tokens.shape[1] != expected:
            got = tuple(tokens.shape)[1:] if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f'it returns {got} for {_times(grid)} patches, expected {expected} tokens')
    except Exception as error:  # an unknown network may raise anything
        reason = first_line(error)
        reason = reason if isinstance(error, ValueError) else f'{type(error).__name__}: {reason}'
        raise ValueError(
            f'{name} cannot serve as a teacher ({reason}): use a vision transformer with a CLS token'
        ) from error
    return images, tokens


def _times(size: Grid) -> str:
    return f'{size[0]}x{size[1]}'
