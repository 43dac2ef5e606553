"""The classes of public datasets in words that a text tower knows."""

import difflib

import open_clip

# A background has no look of its own: what most pixels show that are none of VOC's 20 things.
VOC_BACKGROUND = (
    'background, sky, wall, floor, ceiling, ground, grass, tree, road, water, mountain, building, door, '
    'window, curtain, cabinet, bed, fence'
)
CAMVID = ['sky', 'building', 'pole', 'road', 'pavement, sidewalk', 'tree', 'sign, traffic sign', 'fence']
CAMVID += ['car', 'pedestrian, person', 'bicyclist, cyclist']
SCENES = ('background', 'circle', 'square', 'triangle', 'star', 'cross', 'ring', 'crescent', 'arrow')
# What mmseg calls some classes, in English. Commas separate names of one class.
ENGLISH = {
    # ADE20K
    'apparel': 'apparel, clothes',
    'ashcan': 'ashcan, trash can',
    'case': 'case, display case',
    'conveyer belt': 'conveyor belt',
    'crt screen': 'CRT screen',
    'earth': 'earth, ground',
    'hood': 'hood, range hood',
    'minibike': 'minibike, motorbike',
    'plaything': 'plaything, toy',
    'signboard': 'signboard, sign',
    'television receiver': 'television receiver, television',
    'trade name': 'trade name, brand name',
    'washer': 'washer, washing machine',
    'windowpane': 'windowpane, window',
    # VOC and Context
    'aeroplane': 'aeroplane, airplane',
    'bedclothes': 'bedclothes, bedding',
    'diningtable': 'dining table',
    'motorbike': 'motorbike, motorcycle',
    'mouse': 'mouse, computer mouse',
    'pottedplant': 'potted plant',
    'tvmonitor': 'television, tv monitor',
    # COCO-Stuff
    'hair drier': 'hair dryer',
    'playingfield': 'playing field',
    'remote': 'remote, remote control',
    'solid-other': 'solid object',
    'structural-other': 'structure',
    'tv': 'television, tv',
    'waterdrops': 'water drops',
    'window-blind': 'window blind',
}
# mmseg's names of the datasets.
MMSEG = dict(ade20k='ade20k', cityscapes='cityscapes', coco_stuff='cocostuff')
MMSEG |= dict(context59='pcontext', context60='pcontext', voc20='voc', voc21='voc')
OTHERS = dict(camvid=CAMVID, scenes=SCENES, imagenet=open_clip.IMAGENET_CLASSNAMES)
DATASETS = (*MMSEG, *OTHERS)


def class_names(dataset: str) -> list[str]:
    """Return the names of a dataset's classes, in its order; commas separate names of one class.

    They are mmseg's, in readable English (``'pottedplant'``, ``'wall-brick'``), and open_clip's for ImageNet.

    Args:
        dataset: ``'ade20k'`` (150 classes), ``'cityscapes'`` (19), ``'coco_stuff'`` (171), ``'context59'``,
            ``'voc20'``, ``'context60'`` and ``'voc21'`` (with background first), ``'camvid'`` (11),
            ``'scenes'`` (9) or ``'imagenet'`` (1000).

    Raises:
        ValueError: ``dataset`` is none of these.
    """
    if dataset not in DATASETS:
        known = ', '.join(DATASETS)
        raise ValueError(f'there are no class names of {dataset!r}: expected {known}, or a list')
    if dataset in OTHERS:
        return list(OTHERS[dataset])
    from mmseg.utils import get_classes  # only segmentation needs mmseg

    names = [_english(name) for name in get_classes(MMSEG[dataset])]
    changed = {'context60': ['background', *names], 'voc20': names[1:], 'voc21': [VOC_BACKGROUND, *names[1:]]}
    return changed.get(dataset, names)


def names_in(prompts: str) -> list[str] | list[list[str]]:
    """Read a command line's classes: a dataset's, or ``'sky,road,car|truck'``, with ``|`` in one's names.

    Raises:
        ValueError: If it is nearly the name of a dataset.
    """
    if prompts in DATASETS:
        return class_names(prompts)
    if close := difflib.get_close_matches(prompts, DATASETS, 1, 0.8):
        alone = f'one class of that name: {prompts}|{prompts}'
        raise ValueError(f'{prompts!r} is no dataset with known classes ({alone}): did you mean {close[0]}?')
    return [[name.strip() for name in entry.split('|')] for entry in prompts.split(',')]


def _english(name: str) -> str:
    name = name.strip()
    if name in ENGLISH:
        return ENGLISH[name]
    thing, _, kind = name.partition('-')  # of COCO-Stuff
    return f'{kind} {thing}' if kind not in ('', 'other', 'stuff') else thing
