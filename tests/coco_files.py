"""A tiny dataset in COCO's format: discs and squares on grey."""

import json

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ('disc', 'square')
SIZES = ((48, 64), (64, 40), (50, 37), (64, 64))  # height, width


def polygon(kind, x, y, radius):
    """Corners x1, y1, x2, y2, ..."""
    if kind:
        return [
            x - radius,
            y - radius,
            x + radius,
            y - radius,
            x + radius,
            y + radius,
            x - radius,
            y + radius,
        ]
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).ravel().round(2).tolist()


def area(corners):
    x, y = np.reshape(corners, (-1, 2)).T
    return float(abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) / 2)


def write_coco(folder, splits=('train', 'val'), sizes=SIZES):
    """``<split>2017/`` and ``annotations/instances_<split>2017.json``: two instances an image."""
    (folder / 'annotations').mkdir(parents=True)
    for split in splits:
        rng = np.random.default_rng(len(split))
        images, annotations = [], []
        (folder / f'{split}2017').mkdir()
        for number, (height, width) in enumerate(sizes):
            canvas = Image.new('RGB', (width, height), (90, 90, 90))
            for kind, row in enumerate((height // 4, 3 * height // 4)):
                radius = int(rng.integers(6, 9))
                column = int(rng.integers(radius + 1, width - radius - 1))
                corners = polygon(kind, column, row, radius)
                colour = tuple(rng.integers(0, 256, 3).tolist())
                ImageDraw.Draw(canvas).polygon(corners, fill=colour)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number + 10,
                        category_id=(7, 3)[kind],
                        bbox=[column - radius, row - radius, 2 * radius, 2 * radius],
                        area=area(corners),
                        segmentation=[corners],
                        iscrowd=0,
                    )
                )
            name = f'{number:03d}.jpg'
            canvas.save(folder / f'{split}2017' / name)
            images.append(dict(id=number + 10, file_name=name, height=height, width=width))
        content = dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=7, name='disc'), dict(id=3, name='square')],
        )
        (folder / f'annotations/instances_{split}2017.json').write_text(json.dumps(content))
    return folder
