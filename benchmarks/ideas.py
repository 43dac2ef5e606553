"""Each idea that made a step faster, alone, beside what it replaced. Sizes are ViT-B/16's at 224 pixels.

The first of an idea's variants is what this package does.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn import functional as F

from mvp_mm.engine.optim.mvp_optim_wrapper import MVPOptimWrapper
from mvp_mm.models.backbones.attention import explicit_attention, fused_attention
from mvp_mm.models.backbones.multihead_attention import use_faster_attention
from mvp_mm.models.backbones.mvp_block import MVPBlock
from mvp_mm.models.backbones.relative_position import relative_position_bias
from mvp_mm.models.mvp.mvp_loss import MVPLoss
from mvp_mm.weights.bias_tables import num_table_rows, relative_position_index

WIDTH, HEADS, LAYERS, SIDE, PATCH = 768, 12, 12, 224, 16
TARGET_WIDTH = 512

Variants = dict[str, Callable[[], object]]  # of the same result, where they give one


@dataclass(frozen=True)
class Setting:
    """What the variants run on.

    Args:
        device: Where.
        dtype: Of activations; parameters of the student and their gradients are float32.
        batch: Images.
    """

    device: torch.device
    dtype: torch.dtype
    batch: int

    def random(self, *shape: int, grad: bool = False, dtype: torch.dtype | None = None) -> Tensor:
        """Normal numbers, a hundredth large."""
        values = torch.randn(shape, device=self.device).mul_(0.01).to(dtype or self.dtype)
        return values.requires_grad_(grad)

    def autocast(self, work: Callable[[], object]) -> Callable[[], object]:
        """``work`` under the autocast that the student trains in."""

        def run() -> object:
            enabled = self.dtype != torch.float32
            with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled):
                return work()

        return run


def _student_parameters(setting: Setting) -> list[nn.Parameter]:
    shapes = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)] * LAYERS
    shapes += [(size,) for size in (3 * WIDTH, WIDTH, 4 * WIDTH, WIDTH, WIDTH, WIDTH)] * LAYERS
    parameters = [nn.Parameter(setting.random(*shape, dtype=torch.float32)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = setting.random(*parameter.shape, dtype=torch.float32)
    return parameters


def adamw(setting: Setting) -> Variants:
    """The optimiser's step over 85 million parameters."""
    kinds = {
        'fused': dict(fused=True),
        'one after another': dict(foreach=False),
        'foreach': dict(foreach=True),
    }
    parameters = _student_parameters(setting)
    return {name: torch.optim.AdamW(parameters, lr=1e-5, **kind).step for name, kind in kinds.items()}


def clipping(setting: Setting) -> Variants:
    """The gradients' norm and, if it is above the limit, their scaling. Here it is below."""
    parameters = _student_parameters(setting)
    wrapper = MVPOptimWrapper(torch.optim.SGD(parameters, lr=0.0), clip_grad=dict(max_norm=1e9))
    return {
        'scaled above the limit only': lambda: torch.tensor(wrapper._clip()),
        'scaled always (torch)': partial(nn.utils.clip_grad_norm_, parameters, 1e9),
    }


def bias_of_attention(setting: Setting, pixels: int) -> Variants:
    """From a block's table to its bias, forward and backward."""
    window = (pixels // PATCH,) * 2
    table = setting.random(num_table_rows(window), HEADS, grad=True, dtype=torch.float32)
    index = relative_position_index(window).to(setting.device)
    upstream = setting.random(HEADS, *index.shape, dtype=torch.float32)

    def by_rows() -> Tensor:
        length = len(index)
        return table[index.view(-1)].view(length, length, HEADS).permute(2, 0, 1).contiguous()

    def run(bias: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(bias(), table, upstream)

    ours = partial(relative_position_bias, table, index, window, window)
    return {'a head at a time': partial(run, ours), 'a row of heads at a time': partial(run, by_rows)}


def attention(setting: Setting) -> Variants:
    """Attention of a layer with a learnt bias, forward and backward."""
    length = (SIDE // PATCH) ** 2 + 1
    shape = (setting.batch, HEADS, length, WIDTH // HEADS)
    query, key, value = (setting.random(*shape, grad=True) for _ in range(3))
    bias = setting.random(HEADS, length, length, grad=True, dtype=torch.float32)
    upstream = setting.random(*shape)

    def begun_with_bias(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        pairs = setting.batch * HEADS
        logits = torch.baddbmm(
            bias.to(query.dtype).expand(setting.batch, -1, -1, -1).reshape(pairs, length, length),
            query.reshape(pairs, length, -1),
            key.reshape(pairs, length, -1).transpose(1, 2),
            alpha=query.shape[-1] ** -0.5,
        )
        return (logits.softmax(dim=-1) @ value.reshape(pairs, length, -1)).view(shape)

    def run(function: Callable[..., Tensor]) -> tuple[Tensor, ...]:
        inputs = query, key, value, bias
        return torch.autograd.grad(function(*inputs), inputs, upstream)

    kinds = {
        'products, scale and bias apart': explicit_attention,
        "torch's fused kernel": fused_attention,
        'a product that begins with the bias': begun_with_bias,
    }
    if setting.device.type == 'cuda':
        kinds = {name: kinds[name] for name in ("torch's fused kernel", *kinds)}
    return {name: partial(run, function) for name, function in kinds.items()}


def clips_attention(setting: Setting) -> Variants:
    """Attention of a layer of a CLIP that learns, with its linear layers, forward and backward."""
    shape = (setting.batch, (SIDE // PATCH) ** 2 + 1, WIDTH)
    tokens = setting.random(*shape, grad=True)
    upstream = setting.random(*shape)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, device=setting.device, dtype=setting.dtype)
    ours = copy.deepcopy(theirs)
    use_faster_attention(ours)

    def run(module: nn.Module) -> tuple[Tensor, ...]:
        out = module(tokens, tokens, tokens, need_weights=False)[0]
        return torch.autograd.grad(out, (tokens, *module.parameters()), upstream)

    return {'without copies, or by two products': partial(run, ours), "torch's": partial(run, theirs)}


def residual(setting: Setting) -> Variants:
    """Layer scale, stochastic depth and the sum with the residual stream, forward and backward."""
    shape = (setting.batch, (SIDE // PATCH) ** 2 + 1, WIDTH)
    tokens = setting.random(*shape, grad=True, dtype=torch.float32)
    branch = setting.random(*shape, grad=True)
    block = MVPBlock(WIDTH, HEADS, 4 * WIDTH, None, layer_scale_init_value=0.1, drop_path_rate=0.1)
    block.to(setting.device).train()
    upstream = setting.random(*shape, dtype=torch.float32)

    def step_by_step() -> Tensor:
        return tokens + block.drop_path(block.gamma_1 * branch)

    def in_branchs_type() -> Tensor:
        kept = block.drop_path(torch.ones(setting.batch, 1, 1, device=setting.device))
        return tokens + (block.gamma_1 * kept).to(branch.dtype) * branch

    def run(function: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        torch.manual_seed(0)
        return torch.autograd.grad(function(), (tokens, branch, block.gamma_1), upstream)

    def ours() -> Tensor:
        return block._add(tokens, branch, block.gamma_1, block._draw_kept(tokens))

    kinds = {'one pass': ours, 'step by step': step_by_step, "in the branch's type": in_branchs_type}
    if setting.device.type == 'cuda':
        kinds['one pass, compiled'] = torch.compile(lambda: ours())
    return {name: setting.autocast(partial(run, function)) for name, function in kinds.items()}


def loss(setting: Setting) -> Variants:
    """Eq. 9, forward and backward."""
    shape = (setting.batch, (SIDE // PATCH) ** 2 + 1, TARGET_WIDTH)
    predictions, targets = setting.random(*shape, grad=True), setting.random(*shape)

    def normalised() -> Tensor:
        left, right = (F.normalize(tokens.float(), dim=-1) for tokens in (predictions, targets))
        return -(left * right).sum(-1).mean()

    def run(function: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(), predictions)

    ours = partial(MVPLoss(), predictions, targets)
    kinds = {"torch's cosines": ours, 'normalised, then multiplied': normalised}
    if setting.device.type == 'cuda':
        kinds["torch's cosines, compiled"] = torch.compile(lambda: ours())
    return {name: partial(run, function) for name, function in kinds.items()}


def quick_gelu(setting: Setting) -> Variants:
    """The activation of a layer of CLIP, forward; the factors are in the weights around it."""
    hidden = setting.random(setting.batch, (SIDE // PATCH) ** 2 + 1, 4 * WIDTH)
    kinds = {'silu in place': nn.SiLU(inplace=True), "open_clip's": QuickGELU()}

    @torch.no_grad()
    def run(activation: nn.Module) -> None:
        activation(hidden)

    return {name: partial(run, activation) for name, activation in kinds.items()}


def patches(setting: Setting) -> Variants:
    """Patch embedding, forward and backward."""
    images = setting.random(setting.batch, 3, SIDE, SIDE)
    weight = setting.random(WIDTH, 3, PATCH, PATCH, grad=True, dtype=torch.float32)

    def convolved() -> Tensor:
        return F.conv2d(images, weight.to(setting.dtype), stride=PATCH).flatten(2).transpose(1, 2)

    def multiplied() -> Tensor:
        grid = SIDE // PATCH
        tiles = images.view(setting.batch, 3, grid, PATCH, grid, PATCH).permute(0, 2, 4, 1, 3, 5)
        return tiles.reshape(setting.batch, grid * grid, -1) @ weight.to(setting.dtype).flatten(1).t()

    upstream = setting.random(setting.batch, (SIDE // PATCH) ** 2, WIDTH)

    def run(function: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(function(), weight, upstream)

    kinds = {'a convolution': convolved, 'one product of unfolded patches': multiplied}
    return {name: partial(run, function) for name, function in kinds.items()}


IDEAS: dict[str, Callable[[Setting], Variants]] = {
    'AdamW': adamw,
    'clipping': clipping,
    'bias, 224 pixels': partial(bias_of_attention, pixels=224),
    'bias, 512 pixels': partial(bias_of_attention, pixels=512),
    'attention with a bias': attention,
    'attention of a CLIP that learns': clips_attention,
    'residual sum': residual,
    'loss': loss,
    'QuickGELU': quick_gelu,
    'patch embedding': patches,
}
