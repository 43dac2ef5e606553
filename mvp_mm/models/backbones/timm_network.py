"""Build networks of timm, and find where they have their tokens."""

import difflib
from collections.abc import Sequence
from itertools import product
from typing import Any

import timm
from torch import Tensor

from ...weights.bias_tables import Grid
from ...weights.read import first_line
from .attention import learns_faster_explicitly

EMBEDDINGS = tuple(  # where timm's networks keep the first projection, before positions are added
    f'{inside}{name}'
    for inside in ('', 'encoder.')
    for name in ('patch_embed.input_proj', 'patch_embed', 'embeds.proj', 'stem')
)


def create_network(
    name: str, size: Grid | None, arguments: dict, pretrained: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Create a network without a classifier; also return which of the arguments about size it takes."""
    fixed: list[dict[str, Any]] = [{}] if size is None else [dict(img_size=size), {}]
    flexible: list[dict[str, Any]] = [dict(dynamic_img_size=True), {}]
    for sizes, dynamic in product(fixed, flexible):
        try:
            network = timm.create_model(name, pretrained, num_classes=0, **sizes, **dynamic, **arguments)
            return network, sizes
        except Exception as problem:  # unknown names, configs and downloads make timm raise anything
            error = problem
            if not isinstance(error, TypeError):  # of a family without that argument
                break
    architecture = name.split('.')[0]
    if ':' not in name and not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=4, cutoff=0.5)
        hint = f'did you mean {", ".join(close)}?' if close else 'see timm.list_models()'
        raise ValueError(f'timm knows no model {name!r}; {hint}') from error
    if pretrained:
        raise FileNotFoundError(
            f'the public weights {name} could not be had ({first_line(error)}). Without a network, copy the '
            'file to this machine and give its path as model.backbone.init_cfg.checkpoint'
        ) from error
    raise ValueError(f'timm cannot build {name}: {first_line(error)}') from error


def attentions_of(network: Any) -> list[Any]:
    """Return a network's attention modules that use torch's fused kernel."""
    return [module for module in network.modules() if getattr(module, 'fused_attn', False)]


def choose_kernel(attentions: Sequence[Any], images: Tensor, training: bool) -> None:
    """Let attention modules attend to these images by torch's fused kernel, unless it learns slower by it."""
    fused = not (training and learns_faster_explicitly(images))
    for attention in attentions:
        attention.fused_attn = fused


def layout_of(raw: Any, network: Any, last: Grid | None) -> tuple[str, Grid, int, int] | None:
    """Return layout, grid, width and number of prefix tokens of features; None if they are no map."""
    if not isinstance(raw, Tensor) or hasattr(network, 'reroll'):  # Hiera's may not lie row by row
        return None
    width = network.num_features
    if raw.ndim == 4:
        channels_last = raw.shape[1] != width and raw.shape[3] == width
        channels_last |= raw.shape[1] == raw.shape[3] and getattr(network, 'output_fmt', '') == 'NHWC'
        if last is not None and width not in (raw.shape[1], raw.shape[3]):
            channels_last = tuple(raw.shape[1:3]) == last
        form, sides = ('NHWC', raw.shape[1:3]) if channels_last else ('NCHW', raw.shape[2:])
        return form, (sides[0], sides[1]), raw.shape[3 if channels_last else 1], 0
    if raw.ndim == 3 and last is not None:
        prefix = raw.shape[1] - last[0] * last[1]
        told = getattr(network, 'num_prefix_tokens', None)
        if prefix == told or (told is None and prefix in (0, 1)):
            return 'NLC', last, raw.shape[2], prefix
    return None


def width_on_grid(out: Any, grid: Grid) -> int:
    """Return the width of a patch embedding's output if it has a token for each place of the grid; else 0."""
    out = out if isinstance(out, Tensor) or not out else out[0]
    shape = tuple(out.shape[1:]) if isinstance(out, Tensor) else ()
    if shape[:-1] in (grid, (grid[0] * grid[1],)):
        return shape[-1]
    return shape[0] if shape[1:] == grid else 0


def depths_of(network: Any) -> dict[str, int]:
    """Return each parameter's depth by timm's ``group_matcher``; all 0 without one."""
    try:
        return timm.models.group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    except (AttributeError, NotImplementedError, AssertionError):
        return dict.fromkeys((name for name, _ in network.named_parameters()), 0)


def shown(raw: Any) -> str:
    if isinstance(raw, Tensor):
        return f'a tensor {tuple(raw.shape)}'
    return f'{type(raw).__name__} of {len(raw)}' if hasattr(raw, '__len__') else type(raw).__name__
