"""Try the models of open_clip, timm and transformers as teachers, without weights, and tabulate them.

    python tools/analysis_tools/list_teachers.py --out benchmarks/results/teachers.csv --docs docs/teachers.md

Networks of open_clip and timm are built on torch's meta device: a second or a few each. ``--names FILE``
restricts timm to the names in a file, one a line; ``--table-only`` writes the table in the docs again.
"""

import argparse
import csv
import json
import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import open_clip
import timm

import mvp_mm  # noqa: F401  (registers the components)
from mvp_mm.models import TransformersTargetGenerator
from mvp_mm.models.target_generators.clip import clip_reader
from mvp_mm.models.target_generators.timm import timm_reader

FIELDS = ('library', 'family', 'model', 'space', 'image', 'grid', 'width', 'cls', 'sizes', 'verdict')
BEGIN, END = '<!-- begin: list_teachers -->', '<!-- end: list_teachers -->'
WIDTH, IMAGE = 32, 64
PLAIN = dict(
    hidden_size=WIDTH,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=2 * WIDTH,
    image_size=IMAGE,
    patch_size=16,
)
STAGES = dict(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=IMAGE, patch_size=4)
CONVOLUTIONS = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
#: Small configs of transformers' vision models, by ``model_type``.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            *('aimv2_vision_model', 'beit', 'clip_vision_model', 'data2vec-vision', 'deit', 'dinov2'),
            *('dinov2_with_registers', 'dinov3_vit', 'ijepa', 'mlcd_vision_model', 'pixio', 'radio'),
            *('siglip_vision_model', 'tipsv2_vision_model', 'vit', 'vit_mae', 'vit_msn'),
        ),
        PLAIN,
    ),
    'siglip2_vision_model': {key: value for key, value in PLAIN.items() if key != 'image_size'}
    | dict(num_patches=16),
    'swin': STAGES | dict(window_size=4),
    'swinv2': STAGES | dict(window_size=4),
    'hiera': dict(embed_dim=16, image_size=[64, 64], depths=[1, 1], num_heads=[1, 2], num_query_pool=1)
    | dict(masked_unit_size=[4, 4]),
    'convnext': CONVOLUTIONS,
    'convnextv2': CONVOLUTIONS,
    'dinov3_convnext': CONVOLUTIONS,
    'resnet': dict(embedding_size=8, **CONVOLUTIONS),
    'levit': {},
    'mobilevit': {},
    'pvt_v2': {},
    'segformer': {},
    'bert': {key: PLAIN[key] for key in list(PLAIN)[:4]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('benchmarks/results/teachers.csv'))
    parser.add_argument('--docs', type=Path, help='page whose table is written again')
    parser.add_argument('--names', type=Path)
    parser.add_argument('--libraries', nargs='+', default=['open_clip', 'timm', 'transformers'])
    parser.add_argument('--table-only', action='store_true')
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    if not arguments.table_only:
        names = arguments.names.read_text().split() if arguments.names else timm.list_models()
        tried = dict(open_clip=of_open_clip, timm=lambda: of_timm(names), transformers=of_transformers)
        # takes most of the time on the meta device, and has no effect there
        without_values = patch.object(timm.layers.weight_init, '_trunc_normal_', lambda tensor, *_: tensor)
        with arguments.out.open('w', newline='') as file, without_values:
            writer = csv.DictWriter(file, FIELDS, lineterminator='\n')
            writer.writeheader()
            for library in arguments.libraries:
                for row in tried[library]():
                    writer.writerow(dict(library=library) | row)
                    file.flush()
    with arguments.out.open(newline='') as file:
        rows = list(csv.DictReader(file))
    table = tabulated(rows)
    if arguments.docs is None:
        print(table)
        return
    page = arguments.docs.read_text()
    head, tail = page.partition(BEGIN)[0], page.partition(END)[2]
    arguments.docs.write_text(f'{head}{BEGIN}\n{table}\n{END}{tail}')


def of_timm(names: list[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        family = timm.model_entrypoint(name).__module__.rpartition('.')[2]
        row = dict(model=name, family=family, space='hidden')
        try:
            reader = timm_reader(name)
            row |= told(reader, reader.width, reader.choose_cls('auto', name))
        except ValueError as error:
            row['verdict'] = refused(error, name)
        yield row


def of_open_clip() -> Iterator[dict[str, Any]]:
    for name in open_clip.list_models():
        for space in ('joint', 'hidden'):
            row = dict(model=name, family='', space=space)
            try:
                vision = (open_clip.get_model_config(name) or {}).get('vision_cfg') or {}
                trunk = vision.get('timm_model_name')
                row['family'] = f'timm {trunk.partition("_")[0]}' if trunk else 'open_clip'
                reader, width = clip_reader(name, space)
                row |= told(reader, width, reader.choices[0])
            except ValueError as error:
                row['verdict'] = refused(error, name)
            yield row


def of_transformers() -> Iterator[dict[str, Any]]:
    for kind, values in TRANSFORMERS.items():
        row = dict(model=kind, family=kind, space='hidden')
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / 'config.json').write_text(json.dumps(dict(values, model_type=kind)))
            try:
                teacher = TransformersTargetGenerator(folder, None)
                row |= told(teacher.reader, teacher.out_channels, teacher.cls)
            except ValueError as error:
                row['verdict'] = refused(error, folder)
        yield row


def told(reader: Any, width: int, cls: str) -> dict[str, Any]:
    height, side = reader.image_size
    grid = f'{height // reader.patch_size}x{side // reader.patch_size}'
    sizes = 'any' if reader.can_resize else 'own'
    return dict(image=f'{height}x{side}', grid=grid, width=width, cls=cls, sizes=sizes, verdict='serves')


def refused(error: Exception, name: str) -> str:
    return str(error).replace(name, 'it').partition(': use ')[0].partition('; expected')[0]


def tabulated(rows: list[dict[str, str]]) -> str:
    """One row for models of a family and space that are alike."""
    alike = defaultdict(list)
    for row in rows:
        verdict = row['verdict'] if row['verdict'] == 'serves' else 'refused'
        alike[row['library'], row['family'], row['space'], verdict].append(row)
    lines = [
        '| library | family | models | for example | space | patch grid | CLS | sizes | verdict |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for (library, family, space, verdict), members in alike.items():
        cells = [library, family, str(len(members)), f'`{members[0]["model"]}`', space]
        cells += [counted(members, key) for key in ('grid', 'cls', 'sizes')]
        cells += [verdict if verdict == 'serves' else members[0]['verdict'].replace('|', '/')]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def counted(members: list[dict[str, str]], key: str) -> str:
    found = [value for value, _ in Counter(row[key] for row in members).most_common() if value]
    return ', '.join(found[:3]) + (', …' if len(found) > 3 else '')


if __name__ == '__main__':
    main()
