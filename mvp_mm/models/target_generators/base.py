"""Base class of teachers: frozen, hidden from training, aligned with the student's patch grid."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from ...weights.bias_tables import Grid
from ...weights.fit_positions import times
from ...weights.read import first_line
from ..backbones.gelu import use_compiled_gelu
from ..compilation import compiles, require_choice
from ..speaking.speaks import Speaks
from ..speaking.text_tower import TextTower
from .attention import attention_in_a_run
from .teacher_weights import require_statistics

#: What the target of CLS is: the teacher's CLS token, what it pools for the whole image, or nothing.
CLS_TARGETS = ('token', 'pooled', 'none')
CLS_WORDS = dict(token='its CLS token', pooled='what it pools of the whole image', none='none: patches only')
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class TargetGenerator(Speaks, BaseModule):
    """Frozen teacher: one target vector for CLS and for each patch of the student.

    The teacher's network is not a submodule. So ``state_dict()``, ``parameters()``, DDP and MMEngine's
    initialisation do not see it and it stays in eval mode, but it follows ``.to()`` and the images' device.

    Args:
        teacher: The network, float32.
        teacher_patch_size: Side of its patches in pixels.
        teacher_image_size: ``(H, W)`` it was trained at.
        teacher_mean, teacher_std: Channel statistics of its training images, 0–1 scale.
        patch_size: Side of the student's patches in pixels. Default 16 (paper §3.3).
        grid_matching: What to resize where the patch grids differ: ``'input'`` (the crop), ``'tokens'`` (the
            token map of the teacher at its own size) or ``'auto'`` (default: the crop if it need not grow).
        dtype: ``'float32'``, ``'bfloat16'``, ``'float16'`` or ``'auto'`` (default: autocast's, else float32).
        student_mean, student_std: Statistics the crop was normalised by, 0–255 scale. Default ImageNet's.
        can_resize_input: Whether the network accepts other input sizes than its own. Default True.
        compile_blocks: Compile the network's blocks: as for :class:`MVPViT`. Default ``'auto'``.
        cls: What the target of CLS is, one of :data:`CLS_TARGETS`. Default ``'token'``.

    Attributes:
        cls (str): As the argument; subclasses let the network choose it.
        num_extra_tokens (int): 1, or 0 where ``cls`` is ``'none'`` and targets are those of patches only.
        teaches_cls (bool): Whether there is a target for CLS.
        image_size (tuple): Size of a crop whose patch grid is the teacher's own.
        out_channels (int): Width D of a target.

    Raises:
        ValueError: If an argument is none of the above, or tokens are not one for CLS and one a patch.
    """

    _given: dict[str, Any] = {}  # arguments that :meth:`identity` tells

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
        cls: str = 'token',
    ) -> None:
        super().__init__()
        require_choice(grid_matching, 'grid_matching', ('auto', 'input', 'tokens'))
        require_choice(dtype, 'dtype', ('auto', 'float32', 'bfloat16', 'float16'))
        require_choice(compile_blocks, 'compile_blocks')
        require_choice(cls, 'cls', CLS_TARGETS)
        self.cls, self.num_extra_tokens, self.teaches_cls = cls, int(cls != 'none'), cls != 'none'
        name = type(teacher).__name__
        if grid_matching == 'input' and not can_resize_input:
            raise ValueError(f"{name} runs at its own input size only: use grid_matching='tokens'")
        rows = (
            require_statistics(student_mean, 'student_mean', 255),
            require_statistics(student_std, 'student_std', 255),
            require_statistics(teacher_mean, 'teacher_mean'),
            require_statistics(teacher_std, 'teacher_std'),
        )
        self._statistics = torch.tensor(rows, dtype=torch.float32)
        self.patch_size, self.teacher_patch_size = patch_size, teacher_patch_size
        self.teacher_image_size = (teacher_image_size[0], teacher_image_size[1])
        height, width = (side // teacher_patch_size for side in self.teacher_image_size)
        self.image_size = (height * patch_size, width * patch_size)
        self.grid_matching, self.can_resize_input = grid_matching, can_resize_input
        self.dtype, self.compile_blocks = dtype, compile_blocks
        self._announced: set[Grid] = set()
        use_compiled_gelu(teacher)
        # Plain dicts, which nn.Module does not look into. Each dtype has its own copy of the weights, made
        # at first use: casting back and forth would lose precision.
        self._teachers = {torch.float32: teacher.requires_grad_(False).eval()}
        self._compiled_teachers: dict[torch.dtype, nn.Module] = {}
        print_log(f'The teacher {name}: the target of CLS is {CLS_WORDS[cls]}', logger='current')
        own, extra = self.teacher_image_size, self.num_extra_tokens
        images, tokens = probe(self.encode, teacher, teacher_patch_size, own, name, extra, can_resize_input)
        self.check(images, tokens)
        self.out_channels = tokens.shape[-1]

    def check(self, images: Tensor, tokens: Tensor) -> None:
        """Compare ``tokens`` of ``images`` with the network's own output (hook for subclasses)."""

    @abstractmethod
    def encode(self, teacher: nn.Module, images: Tensor, grid: Grid) -> Tensor:
        """Encode ``(B, 3, h * p_t, w * p_t)``, normalised for the teacher, to ``(B, E + h * w, D)``.

        E is ``num_extra_tokens``: the target of CLS comes first, if there is one.
        """

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

    def identity(self) -> dict[str, Any]:
        """Tell this teacher from others, as plain data: what a checkpoint records of it."""
        return dict(type=type(self).__name__, cls=self.cls) | self._given

    @property
    def text_tower(self) -> TextTower:
        """The text tower of the same model: ValueError for a vision-only teacher."""
        raise ValueError(f'a {type(self).__name__} cannot speak: it has no text tower, as a CLIP has')

    def embed_image(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the targets of whole images: CLS ``(B, D)``, if there is one, and patches ``(B, M, D)``."""
        tokens, extra = self(images), self.num_extra_tokens
        return tokens[:, 0] if extra else None, tokens[:, extra:]

    @property
    def student_mean(self) -> Tensor:
        """Means the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[0]

    @property
    def student_std(self) -> Tensor:
        """Standard deviations the crop was normalised by, ``(3,)``, 0–255 scale."""
        return self._statistics[1]

    image_mean, image_std = student_mean, student_std

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'TargetGenerator':
        super()._apply(fn, recurse)
        self._follow(fn(self._statistics).device)  # not the dtype, which forward chooses
        return self

    def _follow(self, device: torch.device) -> None:
        """Move to a device. FSDP moves the parameters it knows and never calls ``.to()``."""
        if self._statistics.device != device:
            self._statistics = self._statistics.to(device)
            for teacher in self._teachers.values():
                teacher.to(device)
            self._compiled_teachers.clear()

    def __getstate__(self) -> dict:
        return dict(super().__getstate__(), _compiled_teachers={})  # which are bound to this object

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the targets of a batch.

        Args:
            images: The student's crop, ``(B, 3, H, W)``, normalised by the student's statistics.

        Returns:
            ``(B, 1+M, D)``, CLS first, M = (H / patch_size) * (W / patch_size), in ``dtype``, no gradient;
            ``(B, M, D)`` where ``cls`` is ``'none'``.

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
            cls, patches = tokens.tensor_split([self.num_extra_tokens], dim=1)
            patches = patches.transpose(1, 2).unflatten(2, run_grid).float()
            patches = F.interpolate(patches, grid, mode='bilinear', antialias=True)
            return torch.cat([cls, patches.flatten(2).transpose(1, 2).to(tokens.dtype)], dim=1)

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
            raise ValueError(
                f'the attention of a {type(self).__name__} cannot be had: it has none from CLS to patches'
            )
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
        autocast = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if autocast else torch.float32

    def _teacher_in(self, dtype: torch.dtype) -> nn.Module:
        if dtype not in self._teachers:
            self._teachers[dtype] = copy.deepcopy(self.teacher).to(dtype)
        return self._teachers[dtype]

    def _compiled_teacher(self, dtype: torch.dtype) -> nn.Module:
        """Return a network with compiled blocks that shares the weights of :meth:`_teacher_in`."""
        if dtype not in self._compiled_teachers:
            teacher = self._teacher_in(dtype)
            shared = {id(tensor): tensor for tensor in (*teacher.parameters(), *teacher.buffers())}
            self._compiled_teachers[dtype] = twin = copy.deepcopy(teacher, shared)
            for block in self.blocks(twin):
                block.compile()
        return self._compiled_teachers[dtype]

    def _as_the_teacher_sees(self, images: Tensor) -> tuple[Tensor, Grid, Grid]:
        """Renormalise and resize the crop; also return the patch grids of teacher and student."""
        size, side = (images.shape[-2], images.shape[-1]), self.patch_size
        if size[0] % side or size[1] % side:
            raise ValueError(f'a crop of {times(size)} has no whole number of {side}-pixel patches')
        grid = (size[0] // side, size[1] // side)
        images = self._renormalised(images)
        run_size, run_grid = self._running_size(size, grid)
        if run_size != size:
            images = F.interpolate(images, run_size, mode='bicubic', antialias=True)
        return images, run_grid, grid

    def _renormalised(self, images: Tensor) -> Tensor:
        mean_s, std_s, mean_t, std_t = self._statistics[..., None, None]
        return torch.addcmul((mean_s / 255 - mean_t) / std_t, images.float(), std_s / (255 * std_t))

    def _running_size(self, size: Grid, grid: Grid) -> tuple[Grid, Grid]:
        """Choose the input size and the patch grid the teacher runs at; log once where they differ."""
        patch, own_size = self.teacher_patch_size, self.teacher_image_size
        needed = (grid[0] * patch, grid[1] * patch)
        own_grid = (own_size[0] // patch, own_size[1] // patch)
        fits = self.can_resize_input and needed[0] <= size[0] and needed[1] <= size[1]
        resize_input = self.grid_matching == 'input' or (self.grid_matching == 'auto' and fits)
        if own_grid == grid and not self.can_resize_input:
            needed = own_size
        run_size, run_grid = (needed, grid) if resize_input or own_grid == grid else (own_size, own_grid)
        if not (run_size == size and run_grid == own_grid == grid) and size not in self._announced:
            self._announced.add(size)
            resized = 'its position embedding' if run_grid != own_grid else 'the crop'
            resized = resized if run_grid == grid else f'its token map, to {times(grid)},'
            print_log(
                f'{type(self).__name__}: the student has a {times(grid)} grid of a {times(size)} crop; the '
                f'teacher (patch {patch}, trained at {times(own_size)}) sees it at {times(run_size)}, a '
                f'{times(run_grid)} grid; {resized} is resized.',
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
    extra: int,
    can_resize: bool,
) -> tuple[Tensor, Tensor]:
    """Encode one random image of the teacher's size; return it and its tokens ``(1, extra + h * w, D)``.

    The size is rounded down to whole patches if it ``can_resize``. ValueError if the network fails, or does
    not return one token for each patch and ``extra`` for CLS.
    """
    grid = (image_size[0] // patch_size, image_size[1] // patch_size)
    size = (grid[0] * patch_size, grid[1] * patch_size) if can_resize else image_size
    images = random_image(size, teacher)
    expected = extra + grid[0] * grid[1]
    advice = 'use a vision transformer with a CLS token'
    with network_errors(f'{name} cannot serve as a teacher (', f'): {advice}'):
        tokens = encode(teacher, images, grid)
        if not isinstance(tokens, Tensor) or tokens.ndim != 3 or tokens.shape[1] != expected:
            got = tuple(tokens.shape)[1:] if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f'it returns {got} for {times(grid)} patches, expected {expected} tokens')
    return images, tokens


def random_image(size: Sequence[int], network: nn.Module) -> Tensor:
    """Return an image ``(1, 3, H, W)``, the same each time, on the device of a network."""
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return image.to(next((parameter.device for parameter in network.parameters()), 'cpu'))


@contextmanager
def network_errors(before: str = '', after: str = '') -> Iterator[None]:
    """Raise as a ValueError, between two texts, what an unknown network raises, which may be anything."""
    try:
        yield
    except Exception as error:
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        raise ValueError(f'{before}{kind}{first_line(error)}{after}') from error


def choose_cls(asked: str, choices: Sequence[str], name: str, reason: str = '') -> str:
    """Return what the target of CLS is, of which ``'auto'`` is the first choice."""
    if asked not in ('auto', *choices):
        raise ValueError(f'cls={asked!r} is not possible for {name}: {reason}choose of {choices}')
    return choices[0] if asked == 'auto' else asked
