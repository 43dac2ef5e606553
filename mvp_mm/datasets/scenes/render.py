"""Images made by the program itself, so that everything runs with nothing to download."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

MIN_SHAPES, MAX_SHAPES = 2, 6
OVERSAMPLING = 2  # drawn larger and reduced, for smooth edges


def render_scene(seed: int, index: int, size: int) -> Image.Image:
    """Coloured shapes on a textured background.

    Args:
        seed: Seed of the collection.
        index: Number of the image in it; (seed, index, size) decides every pixel.
        size: Side in pixels.

    Returns:
        RGB image ``(size, size)``.
    """
    rng = np.random.default_rng((seed, index))
    canvas = size * OVERSAMPLING
    coarse = rng.integers(40, 216, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((canvas, canvas), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(MIN_SHAPES, MAX_SHAPES + 1)):
        _draw_shape(draw, rng, canvas)
    image = image.filter(ImageFilter.GaussianBlur(0.5)).resize((size, size), Image.Resampling.BOX)
    noise = rng.normal(0, 6, (size, size, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def _draw_shape(draw: ImageDraw.ImageDraw, rng: np.random.Generator, canvas: int) -> None:
    x, y = rng.uniform(0.1, 0.9, 2) * canvas
    radius = rng.uniform(0.08, 0.25) * canvas
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    corners = int(rng.choice([3, 4, 5, 6, 0]))
    if corners:
        draw.regular_polygon((x, y, radius), corners, rotation=float(rng.uniform(0, 360)), fill=colour)
    else:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
