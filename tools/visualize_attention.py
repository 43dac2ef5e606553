"""Draw what models look at: the CLS attention of the paper's Figure 3, and more, for a paper.

    python tools/visualize_attention.py photo.jpg scenes:val:7 --out figure3.pdf \\
        --model configs/mvp/vittiny_scenes.py work_dirs/vittiny_scenes/epoch_4.pth MVP \\
        --model configs/mvp/vittiny_scenes_mae.py work_dirs/vittiny_scenes_mae/epoch_4.pth MAE

See docs/pictures.md.
"""

import argparse
from pathlib import Path

from mmengine.device import get_device

from mvp_mm.engine import OptionAction, positive_float, positive_int, run_command_line
from mvp_mm.evaluation.picture_files import usable_device
from mvp_mm.visualization.attention_sheet import SHOWS, SheetStyle, draw_attention_sheet
from mvp_mm.visualization.paper_figure import DPI, figure_path, save_figure
from mvp_mm.visualization.shown_image import FITS, Point, read_image
from mvp_mm.visualization.viewed_model import view_models
from mvp_mm.wording import counted


def main() -> None:
    style = SheetStyle()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='file, or scenes:SPLIT:INDEX')
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        required=True,
        metavar='WORD',
        help='NAME_OR_CONFIG [CHECKPOINT [TITLE]]; repeat for several models. Any pre-training or downstream '
        "checkpoint; default: the published weights; 'random': none",
    )
    parser.add_argument('--out', type=Path, default=Path('attention.png'), help='default attention.png')
    parser.add_argument('--show', nargs='+', choices=SHOWS, default=['attention'], help='default attention')
    parser.add_argument(
        '--patch',
        action='append',
        default=[],
        metavar='X,Y',
        help='for similarity: the patch at this place, in pixels of the image (120,80) or fractions of what '
        'is shown (0.25,0.5); repeat for several',
    )
    parser.add_argument('--teacher', action='store_true', help="the teacher's maps beside the student's")
    parser.add_argument('--layer', type=int, default=-1, help='block, counted from 0 (default: the last)')
    parser.add_argument(
        '--size', type=positive_int, help='short side in pixels (default: that of the training)'
    )
    parser.add_argument(
        '--fit', choices=FITS, default='crop', help='show the middle square (default), or the whole image'
    )
    parser.add_argument('--images-across', action='store_true', help='one column per image, not one row')
    parser.add_argument(
        '--opacity', type=float, default=style.opacity, help=f'of maps (default {style.opacity})'
    )
    parser.add_argument('--colours', default=style.colours, help=f'colour map (default {style.colours})')
    parser.add_argument('--interpolation', choices=['nearest', 'bilinear'], default=style.interpolation)
    parser.add_argument(
        '--panel', type=positive_float, default=style.panel, help=f'inches (default {style.panel})'
    )
    parser.add_argument('--dpi', type=positive_int, default=DPI, help=f'default {DPI}')
    parser.add_argument(
        '--cfg-options', nargs='+', action=OptionAction, help="override values of every model's config"
    )
    parser.add_argument('--device', help='default: a GPU if there is one')
    args = parser.parse_args()
    figure_path(args.out)
    device = usable_device(args.device or get_device())
    points = [Point.parse(text) for text in args.patch]
    style = SheetStyle(args.panel, args.opacity, args.colours, args.interpolation, args.images_across)
    models = view_models(args.model, args.teacher, args.cfg_options, device)
    scene_side = max(model.side for model in models) if args.size is None else args.size
    images = [read_image(source, scene_side, args.fit) for source in args.images]
    figure = draw_attention_sheet(images, models, args.show, points, args.layer, args.size, style)
    save_figure(figure, args.out, args.dpi)
    print(f'{counted(len(images), "image")} seen by {counted(len(models), "model")} drawn to {args.out}')


if __name__ == '__main__':
    run_command_line(main, quiet=True)
