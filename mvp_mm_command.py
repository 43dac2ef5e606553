"""The command ``mvp-mm``; tools/{download,export,publish,segment,shards}.py are five of its commands.

This file lies beside the package and imports nothing heavy until a command needs it: the package brings
torch, which takes seconds, and ``mvp-mm --help`` should not.
"""

import argparse
import inspect
import os
import shlex
import sys
from pathlib import Path
from typing import Any

STUDENTS = ('vit-tiny', 'vit-base', 'vit-large')
TARGETS = ('timm', 'transformers', 'mmpretrain', 'mmseg', 'microsoft', 'safetensors', 'onnx')
TEACHER, TINY_TEACHER = 'ViT-B-16-quickgelu/openai', 'teachers_clip_vittiny_photographs'


def main() -> None:
    """Run ``mvp-mm``."""
    if sys.argv[1:2] == ['segment'] and {'--data', '--classes'} & set(sys.argv):
        rest = shlex.join(sys.argv[2:])
        sys.exit(f'\nERROR: `mvp-mm segment` predicts. To train: mvp-mm finetune --task segmentation {rest}')
    run(vars(mvp_mm_parser().parse_args()))


def run_tool(name: str) -> None:
    """Run ``tools/<name>.py``, which is the command of this name."""
    parser = argparse.ArgumentParser(**about(name))
    COMMANDS[name](parser)
    run(vars(parser.parse_args()))


def run(arguments: dict[str, Any]) -> None:
    """Run a parsed command; what the user can fix ends in one line."""
    command = arguments.pop('run')
    try:
        from mvp_mm.engine import run_command_line

        # a training has its own display
        run_command_line(lambda: command(**arguments), quiet='verbose' not in arguments)
    except ImportError as error:  # says what is missing and how to install it
        if os.environ.get('MVP_MM_TRACEBACK') == '1':
            raise
        sys.exit(f'\nERROR: {error}')


def mvp_mm_parser() -> argparse.ArgumentParser:
    """Build the parser of ``mvp-mm``."""
    top = argparse.ArgumentParser(
        prog='mvp-mm',
        description='MVP: Multimodality-guided Visual Pre-training. See docs/your_photographs.md.',
    )
    commands = top.add_subparsers(required=True, metavar='COMMAND')
    for name, add_arguments in COMMANDS.items():
        text = about(name)
        summary = text['description'].splitlines()[0].rstrip('.')
        add_arguments(commands.add_parser(name, help=summary[0].lower() + summary[1:], **text))
    return top


def about(name: str) -> dict[str, Any]:
    """What a parser says of its command: the docstring of the function that adds its arguments."""
    text = inspect.cleandoc(COMMANDS[name].__doc__ or '')
    return dict(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def models(parser: argparse.ArgumentParser) -> None:
    """List the models."""
    parser.add_argument('pattern', nargs='?', default='*', help="such as 'upernet_*'")
    parser.add_argument('--task', help="such as 'Semantic Segmentation'")
    parser.add_argument('--pretrained', action='store_true', help='only those with weights')
    parser.set_defaults(run=run_models)


def doctor(parser: argparse.ArgumentParser) -> None:
    """Check the installation, and say what to do; with --data look at photographs, and say what to train.

    It tells sizes, copies and unreadable files, and chooses config, image size, student, epochs and batch by
    published rules: docs/choosing.md.
    """
    parser.add_argument('--data', metavar='DIR', help='folder or list of images, or shards')
    parser.add_argument(
        '--sample',
        type=positive_int,
        default=10_000,
        metavar='N',
        help='with --data: images to read at most (default %(default)s)',
    )
    parser.add_argument('--workers', type=positive_int, help='with --data: processes (default: one a core)')
    parser.set_defaults(run=run_doctor)


def download(parser: argparse.ArgumentParser) -> None:
    """Download the published weights of models by name, and print where they lie.

    An interrupted download goes on at the next call. See docs/model_zoo.md.
    """
    parser.add_argument('names', nargs='+', metavar='NAME', help='a model: `mvp-mm models` lists them')
    parser.add_argument(
        '--zoo', action='append', default=[], metavar='PLACE', help='folder or address of a custom zoo'
    )
    parser.set_defaults(run=run_download)


def publish(parser: argparse.ArgumentParser) -> None:
    """Turn a work dir or a checkpoint into an entry of a zoo, and print its row for a metafile.

    The folder is a zoo for `MVP_MM_ZOO=DIR`, `mvp_mm.add_zoo(DIR)` and, on any web server,
    `mvp_mm.add_zoo(ADDRESS)`. The whole config is published, with the paths in it. See docs/model_zoo.md.
    """
    parser.add_argument('source', metavar='RUN', help='work dir (its last checkpoint), or a checkpoint')
    parser.add_argument('--zoo', type=Path, required=True, metavar='DIR', help='folder of the zoo')
    parser.add_argument('--name', help="of the model (default: the work dir's)")
    parser.add_argument('--config', help='default: the one in the work dir')
    parser.add_argument('--metrics', metavar='FILE', help='what `tools/test.py --out FILE` wrote')
    parser.add_argument('--note', default='', help='remark in the row')
    parser.set_defaults(run=run_publish)


def export(parser: argparse.ArgumentParser) -> None:
    """Write a student for another library, compared with it there before the file gets its name.

    The checkpoint may be a pre-training checkpoint as it is, a classifier, a segmentation model (its
    backbone), a bare weight file or one of another library. Its architecture is inferred unless a config is
    given.
    """
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('checkpoint', help='any BEiT-family weight file, or its address')
    parser.add_argument('out', help='file to write; for transformers a folder')
    parser.add_argument('--config', help='take the architecture from model.backbone of this config')
    parser.add_argument(
        '--img-size',
        type=positive_int,
        nargs='+',
        action=Size,
        metavar='PIXELS',
        help='resize the bias tables for this size: side, or height and width (default: as they are)',
    )
    parser.add_argument('--prefix', help='which of several transformers in the file, such as teacher.')
    parser.add_argument(
        '--prompts',
        metavar='NAMES',
        help='for safetensors and onnx: write the embeddings of these classes beside it, as for segment',
    )
    parser.add_argument('--teacher', metavar='FILE', help="the teacher's weight file, where it has moved")
    parser.set_defaults(run=run_export)


def segment(parser: argparse.ArgumentParser) -> None:
    """Segment images, and draw the result over them, with a legend.

    With --config and --checkpoint by a trained segmentation model; with --prompts by names alone, through
    the teacher's text tower of a pre-trained student, without any fine-tuning. See docs/your_segmentation.md.
    """
    parser.add_argument(
        'images', nargs='+', type=Path, metavar='IMAGE', help='image files, and folders of images'
    )
    parser.add_argument('--config', help='segmentation config')
    parser.add_argument('--checkpoint', help='its checkpoint; with --prompts a pre-training checkpoint')
    parser.add_argument(
        '--prompts',
        metavar='NAMES',
        help='classes by names: "sky,road,car|truck" (| between names of one class), or the classes of '
        'ade20k, cityscapes, coco_stuff, voc20, voc21, context59, context60, camvid or scenes',
    )
    parser.add_argument('--model', metavar='NAME', help='with --prompts: a model of the zoo that has weights')
    parser.add_argument(
        '--teacher', metavar='FILE', help="with --prompts: the teacher's weight file, where it has moved"
    )
    parser.add_argument('--out', type=Path, required=True, help='folder for the pictures')
    parser.add_argument('--opacity', type=float, default=0.55, help='of the colours, 0 to 1 (default 0.55)')
    parser.add_argument('--device', help='default: a GPU if there is one')
    parser.set_defaults(run=run_segment)


def pretrain(parser: argparse.ArgumentParser) -> None:
    """Pre-train a student on a folder of images, without labels."""
    training(parser, 'pretrain')
    parser.add_argument(
        '--teacher',
        action='append',
        help='MODEL/TAG or MODEL/FILE of open_clip, a folder with open_clip_config.json, hf-hub:owner/name, '
        'timm:MODEL, timm:MODEL/FILE, transformers:FOLDER, a teacher of the zoo (`mvp-mm models '
        "'teachers_*'`), or MODEL/random for a test; given again, several teachers at once "
        f'(default {TEACHER}; for vit-tiny {TINY_TEACHER}, which ships)',
    )


def finetune(parser: argparse.ArgumentParser) -> None:
    """Fine-tune a student: a classifier of a labelled folder, or UperNet on images with label maps.

    Classification reads DIR/{train,val}/<class>/*, segmentation DIR/{images,annotations}/{train,val}.
    """
    training(parser, 'finetune')
    start(parser)
    parser.add_argument(
        '--task',
        choices=['classification', 'segmentation'],
        default='classification',
        help='default %(default)s',
    )
    parser.add_argument('--classes', nargs='+', help='for segmentation: names, in the order of their numbers')
    parser.add_argument('--iterations', type=int, help="for segmentation (default: the recipe's)")
    parser.add_argument('--image-suffix', default='.jpg', help='for segmentation (default %(default)s)')


def probe(parser: argparse.ArgumentParser) -> None:
    """Train linear classifiers on a frozen student: DIR/{train,val}/<class>/*."""
    training(parser, 'probe')
    start(parser)


def shards(parser: argparse.ArgumentParser) -> None:
    """Write tar shards of images with texts from a folder or list, or check shards.

    SOURCE is a folder (the texts of a.jpg in a.txt, if there are any) or a CSV, TSV, JSON Lines, COCO or
    Parquet list; with --check shards: a folder, or a quoted pattern. Called again, it writes what is missing.
    See docs/shards.md.
    """
    parser.add_argument('source', metavar='SOURCE', help='folder or list; with --check the shards')
    parser.add_argument('--out', metavar='DIR', help='folder for the shards, their indices and checksums')
    parser.add_argument('--images', metavar='DIR', help="of a list's images (default: the list's own folder)")
    parser.add_argument(
        '--image-key', metavar='NAME', help="column of a list's paths (default: image, path, ...)"
    )
    parser.add_argument('--caption-key', metavar='NAME', help='of its captions (default: caption, text, ...)')
    parser.add_argument('--label-key', metavar='NAME', help='of its class numbers (default: no labels)')
    parser.add_argument('--encoding', help='of a list (default: its byte-order mark, else UTF-8)')
    parser.add_argument(
        '--class-folders',
        action='store_true',
        help="write the number of each image's sub-folder as its class",
    )
    parser.add_argument('--check', action='store_true', help='read the shards, and compare their checksums')
    parser.add_argument('--decode', action='store_true', help='with --check: decode every image')
    parser.add_argument('--prefix', default='train', help='of the names (default %(default)s)')
    parser.add_argument(
        '--per-shard', type=positive_int, default=1000, metavar='N', help='samples (default %(default)s)'
    )
    parser.add_argument('--in-order', dest='shuffle', action='store_false', help='do not shuffle')
    parser.add_argument('--seed', type=int, default=0, help='of the order (default %(default)s)')
    parser.add_argument('--workers', type=positive_int, help='processes (default: one a core)')
    parser.set_defaults(run=run_shards)


def training(parser: argparse.ArgumentParser, name: str) -> None:
    """Add what all trainings have."""
    what = 'folder or list of images, or shards' if name == 'pretrain' else 'folder of the data'
    parser.add_argument('--data', required=True, metavar='DIR', help=what)
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='for config, logs, checkpoints; a run there is resumed'
    )
    parser.add_argument(
        '--student',
        type=a_student,
        default='vit-base',
        metavar='NAME',
        help=f'{", ".join(STUDENTS)}, or a network of timm: timm:NAME goes on from its public weights, '
        'timm:NAME/random starts from scratch (default %(default)s)',
    )
    parser.add_argument('--epochs', type=int, help="default: the recipe's")
    parser.add_argument('--batch', type=int, help='images an iteration (default: what the machine holds)')
    parser.add_argument('--dry-run', action='store_true', help='write the config, and do not run it')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        metavar='KEY=VALUE',
        help='override config values, as in tools/train.py',
    )
    parser.add_argument('--verbose', action='store_true', help="show MMEngine's log, not a progress bar")
    parser.set_defaults(run=run_training, name=name)


def a_student(text: str) -> str:
    """Check the name of a student."""
    if text not in STUDENTS and not text.startswith('timm:'):
        raise argparse.ArgumentTypeError(f'{text!r} is none of {", ".join(STUDENTS)}, timm:NAME')
    return text


def start(parser: argparse.ArgumentParser) -> None:
    """Add what a downstream training starts from."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument('--checkpoint', metavar='FILE', help='pre-training checkpoint, or its address')
    group.add_argument('--from-scratch', action='store_true', help='from random weights')


def positive_int(text: str) -> int:
    """The package's argument type of this name, imported when there is something to check."""
    from mvp_mm.engine import positive_int

    return positive_int(text)


class Size(argparse.Action):
    """A side, or height and width."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if len(values) > 2:
            parser.error(f'{option_string} takes a side, or height and width')
        setattr(namespace, self.dest, tuple(values * 2)[:2])


def run_models(pattern: str, task: str | None, pretrained: bool) -> None:
    """``mvp-mm models``."""
    from mvp_mm.console.models_table import print_models

    print_models(pattern, task, pretrained)


def run_doctor(data: str | None, sample: int, workers: int | None) -> None:
    """``mvp-mm doctor``."""
    from mvp_mm.console.doctor import diagnose
    from mvp_mm.console.photographs import look_at_photographs

    sys.exit(1 if (diagnose() if data is None else look_at_photographs(data, sample, workers)) else 0)


def run_download(names: list[str], zoo: list[str]) -> None:
    """``mvp-mm download``."""
    from mvp_mm.zoo import add_zoo, download_weights

    for place in zoo:
        add_zoo(place)
    for name in names:
        print(download_weights(name))


def run_publish(**arguments: Any) -> None:
    """``mvp-mm publish``."""
    from mvp_mm.zoo.publish import publish

    published = publish(**arguments)
    for path in (published.weights, published.config, published.metrics, published.index):
        print(path)
    print(f'\nIts row, for any metafile:\n\n{published.row_as_yaml()}')


def run_export(**arguments: Any) -> None:
    """``mvp-mm export``."""
    from mvp_mm.export import export

    print(export(**arguments))


def run_segment(**arguments: Any) -> None:
    """``mvp-mm segment``."""
    from mvp_mm.console import segment
    from mvp_mm.wording import counted

    pictures = segment(**arguments)
    print(f'{counted(len(pictures), "picture")} in {arguments["out"]}')


def run_shards(**arguments: Any) -> None:
    """``mvp-mm shards``."""
    from mvp_mm.console.shards import run_shards

    run_shards(**arguments)


def run_training(name: str, cfg_options: list[str] | None, **arguments: Any) -> None:
    """``mvp-mm pretrain`` and its like."""
    import mvp_mm.console
    from mvp_mm.engine import OptionAction

    arguments.pop('from_scratch', None)
    options = argparse.Namespace(options=None)
    if cfg_options is not None:
        OptionAction(['--cfg-options'], 'options')(None, options, cfg_options, '--cfg-options')
    getattr(mvp_mm.console, name)(options=options.options, **arguments)


COMMANDS = {
    command.__name__: command
    for command in (pretrain, finetune, probe, segment, export, shards, models, download, publish, doctor)
}


if __name__ == '__main__':
    main()
