"""The console command ``mvp-mm``.

It lies beside the package and not in it, and imports nothing heavy before a command is known to need it: the
package itself brings torch, which takes seconds, and ``mvp-mm --help`` should not.
"""

import argparse
import importlib.util
import runpy
import sys
from pathlib import Path

# Commands that are tools/<name>.py as it stands, with all its arguments.
TOOLS = {
    'download': 'bring the weights of a model to this machine',
    'publish': 'turn a work dir into an entry of a zoo',
    'export': 'write a student for timm, transformers, mmseg, mmpretrain, ONNX',
}
STUDENTS = ('vit-tiny', 'vit-base', 'vit-large')


def main() -> None:
    """Run ``mvp-mm``."""
    if len(sys.argv) > 1 and sys.argv[1] in TOOLS:
        name = sys.argv.pop(1)
        sys.argv[0] = f'mvp-mm {name}'
        runpy.run_path(str(tools_folder() / f'{name}.py'), run_name='__main__')
        return
    args = vars(parser().parse_args())
    command = args.pop('command')
    try:
        from mvp_mm.engine import run_command_line
    except ImportError as error:  # with what is missing and how to install it
        sys.exit(f'\nERROR: {error}')
    own = dict(models=run_models, doctor=run_doctor)
    run_command_line(lambda: own[command](**args) if command in own else run_training(command, **args))


def tools_folder() -> Path:
    """The tools that the package ships, found without importing it."""
    spec = importlib.util.find_spec('mvp_mm')
    if spec is None or not spec.submodule_search_locations:
        sys.exit('\nERROR: mvp_mm is not installed in this environment: pip install "mvp_mm[openmmlab]"')
    return Path(spec.submodule_search_locations[0]) / '.mim' / 'tools'


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands but :data:`TOOLS`."""
    top = argparse.ArgumentParser(
        prog='mvp-mm',
        description='MVP: Multimodality-guided Visual Pre-training. See docs/your_photographs.md.',
    )
    commands = top.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add = commands.add_parser('models', help='list the models')
    add.add_argument('pattern', nargs='?', default='*', help="such as 'upernet_*'")
    add.add_argument('--task', help="such as 'Semantic Segmentation'")
    add.add_argument('--pretrained', action='store_true', help='only those with weights')
    commands.add_parser('doctor', help='check the installation, and say what to do')
    for name, text in TOOLS.items():
        commands.add_parser(name, help=text, add_help=False)

    add = training(commands, 'pretrain', 'pre-train a student on a folder of images')
    add.add_argument(
        '--teacher',
        default='ViT-B-16-quickgelu/openai',
        help='MODEL/TAG or MODEL/FILE of open_clip, a folder with open_clip_config.json, hf-hub:owner/name, '
        'timm:MODEL, timm:MODEL/FILE, a teacher of the zoo (`mvp-mm models '
        "'teachers_*'`), or MODEL/random for a test (default %(default)s)",
    )
    for name, text in (('finetune', 'fine-tune a student on a labelled folder'), ('probe', 'a linear probe')):
        downstream(training(commands, name, f'{text}: DIR/{{train,val}}/<class>/*'))
    add = downstream(
        training(
            commands,
            'segment',
            'train UperNet on images with label maps: DIR/{images,annotations}/{train,val}',
            length='iterations',
        )
    )
    add.add_argument('--classes', nargs='+', required=True, help='names, in the order of their numbers')
    add.add_argument('--image-suffix', default='.jpg', help='default %(default)s')
    return top


def training(commands, name: str, text: str, length: str = 'epochs') -> argparse.ArgumentParser:
    """A parser with what all trainings have."""
    add = commands.add_parser(name, help=text, description=text)
    add.add_argument('--data', required=True, metavar='DIR', help='folder of the data')
    add.add_argument(
        '--out', required=True, metavar='DIR', help='for config, logs, checkpoints; a run goes on'
    )
    add.add_argument('--student', choices=STUDENTS, default='vit-base', help='default %(default)s')
    add.add_argument(f'--{length}', type=int, help="default: the recipe's")
    add.add_argument('--batch', type=int, help='images an iteration (default: what the machine holds)')
    add.add_argument('--dry-run', action='store_true', help='write the config, and do not run it')
    add.add_argument(
        '--cfg-options', nargs='+', metavar='KEY=VALUE', help='override config values, as in tools/train.py'
    )
    return add


def downstream(add: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """With what to start from."""
    start = add.add_mutually_exclusive_group(required=True)
    start.add_argument('--checkpoint', metavar='FILE', help='pre-training checkpoint, or address')
    start.add_argument('--from-scratch', action='store_true', help='from random weights')
    return add


def run_models(pattern: str, task: str | None, pretrained: bool) -> None:
    """``mvp-mm models``."""
    from mvp_mm.console.models_table import print_models

    print_models(pattern, task, pretrained)


def run_doctor() -> None:
    """``mvp-mm doctor``."""
    from mvp_mm.console.doctor import diagnose

    sys.exit(1 if diagnose() else 0)


def run_training(name: str, cfg_options: list[str] | None, **args) -> None:
    """``mvp-mm pretrain`` and its like."""
    import mvp_mm.console
    from mvp_mm.engine.command_line import OptionAction

    args.pop('from_scratch', None)
    options = None
    if cfg_options is not None:
        reader = argparse.ArgumentParser()
        reader.add_argument('--cfg-options', nargs='+', action=OptionAction)
        options = reader.parse_args(['--cfg-options', *cfg_options]).cfg_options
    getattr(mvp_mm.console, name)(options=options, **args)


if __name__ == '__main__':
    main()
