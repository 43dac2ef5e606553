"""Figure 3 of the paper, and its relatives: what models look at, image by image, side by side."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..weights.bias_tables import Grid
from .attention_maps import TokenView, patch_similarity, token_colours, view_student, view_teacher
from .paper_figure import new_figure
from .shown_image import Point, ShownImage, patch_grid, resized
from .viewed_model import ViewedModel

SHOWS = ('attention', 'heads', 'rollout', 'similarity', 'pca')
TITLES = {'attention': 'CLS attention', 'rollout': 'rollout', 'pca': 'PCA of tokens'}
TEACHER_SHOWS = ('attention', 'heads', 'similarity', 'pca')  # of its last layer
TEXT_INCHES = 0.1  # a line of text
LETTERS_AN_INCH = 17  # of a title


@dataclass(frozen=True)
class SheetStyle:
    """How a sheet is drawn.

    Args:
        panel: Width of a panel in inches (height, where images run across).
        opacity: Of a map over its image, 0 to 1. Colours of tokens cover the image.
        colours: Name of a matplotlib colour map.
        interpolation: ``'nearest'`` (default) shows the patches as they are; ``'bilinear'`` smooths.
        images_across: One column an image instead of one row.
    """

    panel: float = 1.2
    opacity: float = 0.65
    colours: str = 'inferno'
    interpolation: str = 'nearest'
    images_across: bool = False

    def __post_init__(self) -> None:
        if self.colours not in matplotlib.colormaps:
            raise ValueError(
                f'matplotlib has no colour map {self.colours!r}; take one such as inferno, viridis'
            )
        if not 0 <= self.opacity <= 1:
            raise ValueError(f'opacity={self.opacity} is not between 0 and 1')
        if not self.panel > 0:
            raise ValueError(f'panel={self.panel}: a panel has a width in inches')


@dataclass(frozen=True)
class _Panel:
    """One cell of a sheet.

    Args:
        image: What lies below.
        values: Map ``(h, w)`` or colours ``(h, w, 3)``, or None for the image alone.
        limits: Values of the lowest and the highest colour of a map.
        note: Small text below.
        mark: ``(row, column)`` of a patch to be framed.
    """

    image: ShownImage
    values: np.ndarray | None = None
    limits: tuple[float, float] | None = None
    note: str = ''
    mark: tuple[int, int] | None = None


def draw_attention_sheet(
    images: Sequence[ShownImage],
    models: Sequence[ViewedModel],
    shows: Sequence[str] = ('attention',),
    points: Sequence[Point] = (),
    layer: int = -1,
    side: int | None = None,
    style: SheetStyle | None = None,
) -> Figure:
    """Draw what models look at: a row an image; the image first, then every model's maps.

    Args:
        images: What is looked at.
        models: One or several; where one has a teacher, the teacher's maps follow the student's.
        shows: ``'attention'`` (CLS to patches, mean of the heads: Figure 3), ``'heads'`` (each head),
            ``'rollout'``, ``'similarity'`` (to the patch at each of ``points``), ``'pca'`` (tokens as
            colours). A teacher has no rollout.
        points: Places whose patches similarity is drawn for.
        layer: Block of the students; negative counts from the end. Default: the last.
        side: Short side in pixels at which the models see the images. Default None: each the one it was
            built for.
        style: Sizes and colours. Default :class:`SheetStyle`'s.

    Returns:
        The figure.

    Raises:
        ValueError: If something that is asked for cannot be had.
    """
    _check(images, models, shows, points)
    style = style or SheetStyle()
    titles, columns = ['image'], [[_Panel(image) for image in images]]
    for model in models:
        _check_cls(model, shows)
        views = [view_student(model, _pixels(image, model, side), layer) for image in images]
        for title, panels in _columns(images, views, shows, points):
            titles.append(f'{model.title}\n{title}')
            columns.append(panels)
        if model.teacher is None:
            continue
        teachers = [show for show in shows if show in TEACHER_SHOWS]
        with_attention = 'attention' in teachers or 'heads' in teachers
        views = [view_teacher(model, _pixels(image, model, side), with_attention) for image in images]
        for title, panels in _columns(images, views, teachers, points):
            titles.append(f'{model.teacher_title}\n{title}')
            columns.append(panels)
    return _draw(titles, columns, style)


def _check(
    images: Sequence[ShownImage], models: Sequence[ViewedModel], shows: Sequence[str], points: Sequence[Point]
) -> None:
    if not images or not models or not shows:
        raise ValueError('a sheet needs an image, a model and something to show')
    unknown = [show for show in shows if show not in SHOWS]
    if unknown:
        raise ValueError(f'{unknown[0]!r} cannot be shown; there are {", ".join(SHOWS)}')
    if 'similarity' in shows and not points:
        raise ValueError('similarity needs the place of a patch: --patch X,Y')
    if points and 'similarity' not in shows:
        raise ValueError('a patch is given, but similarity is not among what is shown: --show similarity')
    if any(model.teacher is not None for model in models) and not set(shows) & set(TEACHER_SHOWS):
        raise ValueError(f'of a teacher there are {", ".join(TEACHER_SHOWS)}, but no {", ".join(shows)}')


def _check_cls(model: ViewedModel, shows: Sequence[str]) -> None:
    wanted = [show for show in shows if show in ('attention', 'heads', 'rollout')]
    if wanted and not model.vit.num_extra_tokens:
        raise ValueError(
            f'{model.title} has no CLS token, so no attention from it ({", ".join(wanted)}): show similarity '
            'or pca'
        )


def _pixels(image: ShownImage, model: ViewedModel, side: int | None) -> Tensor:
    grid = patch_grid(*image.pixels.shape[:2], model.side if side is None else side, model.vit.patch_size)
    return resized(image.pixels, grid, model.vit.patch_size)


def _columns(
    images: Sequence[ShownImage], views: Sequence[TokenView], shows: Sequence[str], points: Sequence[Point]
) -> list[tuple[str, list[_Panel]]]:
    """Titles and panels, one an image, of all that is shown of one network."""
    pairs = list(zip(images, views, strict=True))
    columns = []
    for show in shows:
        if show == 'attention':
            maps = [view.attention.mean(dim=0) for view in views]
            columns.append((TITLES[show], _attention_panels(pairs, maps)))
        elif show == 'heads':
            for head in range(len(views[0].attention)):
                maps = [view.attention[head] for view in views]
                columns.append((f'head {head + 1}', _attention_panels(pairs, maps)))
        elif show == 'rollout':
            panels = _attention_panels(pairs, [view.rollout for view in views])
            columns.append((TITLES[show], panels))
        elif show == 'similarity':
            columns += [
                (f'similarity to {point}', [_similarity_panel(*pair, point) for pair in pairs])
                for point in points
            ]
        else:
            colours = token_colours([view.patches for view in views])
            panels = [
                _Panel(image, _on_grid(values, view.grid))
                for (image, view), values in zip(pairs, colours, strict=True)
            ]
            columns.append((TITLES[show], panels))
    return columns


def _attention_panels(pairs: Sequence[tuple[ShownImage, TokenView]], maps: Sequence[Tensor]) -> list[_Panel]:
    panels = []
    for (image, view), values in zip(pairs, maps, strict=True):
        # From nought, not from the lowest: an attention that is even all over looks even.
        highest = float(values.max())
        note = f'max {highest / float(values.mean()):.1f} × mean'
        panels.append(_Panel(image, _on_grid(values, view.attention_grid), (0.0, highest), note))
    return panels


def _similarity_panel(image: ShownImage, view: TokenView, point: Point) -> _Panel:
    mark = point.patch(image, view.grid)
    values = patch_similarity(view.patches, mark[0] * view.grid[1] + mark[1])
    limits = (float(values.min()), 1.0)
    return _Panel(image, _on_grid(values, view.grid), limits, f'cosine {limits[0]:.2f} to 1', mark)


def _on_grid(values: Tensor, grid: Grid) -> np.ndarray:
    return values.reshape(*grid, *values.shape[1:]).numpy()


def _draw(titles: Sequence[str], columns: Sequence[Sequence[_Panel]], style: SheetStyle) -> Figure:
    notes = any(panel.note for panels in columns for panel in panels)
    shapes = [panel.image.pixels.shape[:2] for panel in columns[0]]
    if style.images_across:
        lines, lengths = columns, [style.panel * width / height for height, width in shapes]
        size = (sum(lengths) + 1.0, len(columns) * (style.panel + notes * TEXT_INCHES) + 0.1)
        ratios = dict(width_ratios=lengths)
    else:
        lines, lengths = list(zip(*columns, strict=True)), [style.panel * h / w for h, w in shapes]
        size = (
            len(columns) * style.panel,
            sum(lengths) + len(shapes) * notes * TEXT_INCHES + 3 * TEXT_INCHES,
        )
        ratios = dict(height_ratios=lengths)
    figure = new_figure(*size)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    grid = figure.subplots(len(lines), len(lines[0]), squeeze=False, gridspec_kw=ratios)
    for row, panels in enumerate(lines):
        for column, panel in enumerate(panels):
            axes = grid[row, column]
            _draw_panel(axes, panel, style)
            if style.images_across and column == 0:
                axes.set_ylabel(_wrapped(titles[row], style), fontsize=7)
            elif not style.images_across and row == 0:
                axes.set_title(_wrapped(titles[column], style), fontsize=7, pad=3)
    return figure


def _draw_panel(axes: Axes, panel: _Panel, style: SheetStyle) -> None:
    height, width = panel.image.pixels.shape[:2]
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.imshow(panel.image.pixels)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    if panel.values is not None and panel.values.ndim == 3:
        axes.imshow(panel.values, extent=extent, interpolation=style.interpolation)
    elif panel.values is not None:
        low, high = panel.limits
        axes.imshow(
            panel.values,
            extent=extent,
            cmap=style.colours,
            alpha=style.opacity,
            vmin=low,
            vmax=high,
            interpolation=style.interpolation,
        )
    if panel.mark is not None:
        rows, columns = panel.values.shape
        row, column = panel.mark
        corner = (column * width / columns - 0.5, row * height / rows - 0.5)
        frame = Rectangle(
            corner, width / columns, height / rows, fill=False, edgecolor='white', linewidth=0.8
        )
        axes.add_patch(frame)
    if panel.note:
        axes.set_xlabel(panel.note, fontsize=5, labelpad=1.5)


def _wrapped(title: str, style: SheetStyle) -> str:
    """In lines that do not run into the next panel's; a name without spaces is broken as well."""
    width = max(8, round(style.panel * LETTERS_AN_INCH))
    return '\n'.join(textwrap.fill(line, width) for line in title.split('\n'))
