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

from .attention_maps import TokenView, patch_similarity, token_colours, view_student, view_teacher
from .paper_figure import new_figure
from .shown_image import Point, ShownImage, patch_grid, resized
from .viewed_model import ViewedModel

SHOWS = ('attention', 'heads', 'rollout', 'similarity', 'pca')
TEACHER_SHOWS = ('attention', 'heads', 'similarity', 'pca')  # of its last layer
TEXT_INCHES = 0.1  # a line of text
LETTERS_PER_INCH = 17  # of a title


@dataclass(frozen=True)
class SheetStyle:
    """Looks of a sheet."""

    panel: float = 1.2  # width of a panel in inches (height, where images run across)
    opacity: float = 0.65  # of a map over its image; colours of tokens cover the image
    colours: str = 'inferno'  # name of a matplotlib colour map
    interpolation: str = 'nearest'  # shows the patches as they are; 'bilinear' smooths
    images_across: bool = False  # one column per image instead of one row

    def __post_init__(self) -> None:
        if self.colours not in matplotlib.colormaps:
            raise ValueError(f'matplotlib has no colour map {self.colours!r}; take one such as viridis')
        if not 0 <= self.opacity <= 1:
            raise ValueError(f'opacity={self.opacity} is not between 0 and 1')
        if not self.panel > 0:
            raise ValueError(f'panel={self.panel}: a panel has a width in inches')


@dataclass(frozen=True)
class _Panel:
    """One cell of a sheet."""

    image: ShownImage
    values: np.ndarray | None = None  # map (h, w) or colours (h, w, 3) over the image
    limits: tuple[float, float] = (0.0, 1.0)  # of a map's colours
    note: str = ''  # small text below
    mark: tuple[int, int] | None = None  # row and column of a patch to frame


def draw_attention_sheet(
    images: Sequence[ShownImage],
    models: Sequence[ViewedModel],
    shows: Sequence[str] = ('attention',),
    points: Sequence[Point] = (),
    layer: int = -1,
    side: int | None = None,
    style: SheetStyle | None = None,
) -> Figure:
    """Draw what models look at: a row per image; the image first, then every model's maps.

    Args:
        images: One or several.
        models: One or several; a teacher's maps follow those of its student.
        shows: ``'attention'`` (CLS to patches, mean of heads: Figure 3), ``'heads'`` (each), ``'rollout'``
            (students only), ``'similarity'`` (to the patch at each of ``points``), ``'pca'`` (token colours).
        points: Places of the patches for similarity.
        layer: Block of the students; negative counts from the end. Default: the last.
        side: Short side in pixels at which the models see the images. Default None: each its own.
        style: Sizes and colours. Default :class:`SheetStyle`'s.

    Raises:
        ValueError: If something that is asked for cannot be had.
    """
    if not images or not models or not shows:
        raise ValueError('a sheet needs an image, a model and something to show')
    if unknown := [show for show in shows if show not in SHOWS]:
        raise ValueError(f'{unknown[0]!r} cannot be shown; there are {", ".join(SHOWS)}')
    if 'similarity' in shows and not points:
        raise ValueError('similarity needs the place of a patch: --patch X,Y')
    if points and 'similarity' not in shows:
        raise ValueError('a patch is given, but similarity is not among what is shown: --show similarity')
    if any(model.teachers for model in models) and not set(shows) & set(TEACHER_SHOWS):
        raise ValueError(f'of a teacher there are {", ".join(TEACHER_SHOWS)}, but no {", ".join(shows)}')
    titles, columns = ['image'], [[_Panel(image) for image in images]]
    for model in models:
        patch_size, inputs = model.student.patch_size, []
        for image in images:
            height, width = image.pixels.shape[:2]
            grid = patch_grid(height, width, model.side if side is None else side, patch_size)
            inputs.append(resized(image.pixels, grid, patch_size))
        networks = [(model.title, list(shows), [view_student(model, pixels, layer) for pixels in inputs])]
        for title in model.teachers:
            wanted = [show for show in shows if show in TEACHER_SHOWS]
            with_attention = not {'attention', 'heads'}.isdisjoint(wanted)
            views = [view_teacher(model, pixels, with_attention, title) for pixels in inputs]
            networks.append((title, wanted, views))
        for name, wanted, views in networks:
            colours = token_colours([view.patches for view in views])
            triples = zip(images, views, colours, strict=True)
            rows = [_panels(name, *triple, wanted, points) for triple in triples]
            titles += [f'{name}\n{title}' for title in rows[0]]
            columns += [[row[title] for row in rows] for title in rows[0]]
    return _draw(titles, columns, style or SheetStyle())


def _panels(
    network: str,
    image: ShownImage,
    view: TokenView,
    colours: Tensor,
    shows: Sequence[str],
    points: Sequence[Point],
) -> dict[str, _Panel]:
    """Return the panels of one network and image by title; ``colours`` of the tokens are ``(M, 3)``."""
    panels = {}
    for show in shows:
        if show == 'pca':
            panels['PCA of tokens'] = _Panel(image, colours.view(*view.grid, 3).numpy())
        elif show == 'similarity':
            for point in points:
                mark = point.patch(image, view.grid)
                values = patch_similarity(view.patches, mark[0] * view.grid[1] + mark[1]).view(view.grid)
                limits = (float(values.min()), 1.0)
                note = f'cosine {limits[0]:.2f} to 1'
                panels[f'similarity to {point}'] = _Panel(image, values.numpy(), limits, note, mark)
        else:
            if view.attention is None:
                raise ValueError(
                    f'{network} has no CLS token, or no blockwise(images), so no attention to show ({show}): '
                    'show similarity or pca'
                )
            maps = {'CLS attention': view.attention.mean(dim=0)}
            if show == 'heads':
                maps = {f'head {number}': head for number, head in enumerate(view.attention, start=1)}
            elif show == 'rollout':
                assert view.rollout is not None  # of a student with attention
                maps = {'rollout': view.rollout}
            for title, values in maps.items():
                highest = float(values.max())  # from zero: an attention that is even all over looks even
                note = f'max {highest / float(values.mean()):.1f} × mean'
                on_grid = values.view(view.attention_grid or view.grid).numpy()
                panels[title] = _Panel(image, on_grid, (0.0, highest), note)
    return panels


def _draw(titles: Sequence[str], columns: Sequence[Sequence[_Panel]], style: SheetStyle) -> Figure:
    width = max(8, round(style.panel * LETTERS_PER_INCH))
    wrapped = ['\n'.join(textwrap.fill(line, width) for line in title.split('\n')) for title in titles]
    note_inches = TEXT_INCHES * any(panel.note for panels in columns for panel in panels)
    shapes = [panel.image.pixels.shape[:2] for panel in columns[0]]
    if style.images_across:
        lengths = [style.panel * width / height for height, width in shapes]
        figure = new_figure(sum(lengths) + 1.0, len(columns) * (style.panel + note_inches) + 0.1)
        grid = figure.subplots(len(columns), len(shapes), squeeze=False, width_ratios=lengths)
    else:
        lengths = [style.panel * height / width for height, width in shapes]
        title_inches = 1.4 * TEXT_INCHES * max(title.count('\n') + 1 for title in wrapped)
        height = sum(lengths) + len(shapes) * note_inches + title_inches
        figure = new_figure(len(columns) * style.panel, height)
        grid = figure.subplots(len(shapes), len(columns), squeeze=False, height_ratios=lengths).T
    figure.set_layout_engine('compressed', w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for all_axes, title, panels in zip(grid, wrapped, columns, strict=True):
        if style.images_across:
            all_axes[0].set_ylabel(title, fontsize=7)
        else:
            all_axes[0].set_title(title, fontsize=7, pad=3)
        for axes, panel in zip(all_axes, panels, strict=True):
            _draw_panel(axes, panel, style)
    return figure


def _draw_panel(axes: Axes, panel: _Panel, style: SheetStyle) -> None:
    height, width = panel.image.pixels.shape[:2]
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.imshow(panel.image.pixels)
    axes.set_xlabel(panel.note, fontsize=5, labelpad=1.5)
    if panel.values is None:
        return
    axes.imshow(
        panel.values,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        cmap=style.colours,
        alpha=style.opacity if panel.values.ndim == 2 else None,
        vmin=panel.limits[0],
        vmax=panel.limits[1],
        interpolation=style.interpolation,
    )
    if panel.mark is not None:
        step_y, step_x = height / panel.values.shape[0], width / panel.values.shape[1]
        corner = (panel.mark[1] * step_x - 0.5, panel.mark[0] * step_y - 0.5)
        axes.add_patch(Rectangle(corner, step_x, step_y, fill=False, edgecolor='white', linewidth=0.8))
