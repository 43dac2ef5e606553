import numpy as np
import pytest
import torch

from mvp_mm.models import CLIPTargetGenerator, MVPViT, PixelTargetGenerator
from mvp_mm.visualization.attention_maps import view_student, view_teacher
from mvp_mm.visualization.attention_sheet import SheetStyle, draw_attention_sheet
from mvp_mm.visualization.shown_image import Point, ShownImage, resized
from mvp_mm.visualization.viewed_model import ViewedModel

ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
ALL = ('attention', 'heads', 'rollout', 'similarity', 'pca')


def student(title='S', teacher=None, **kwargs):
    torch.manual_seed(len(title))
    vit = MVPViT(ARCH, img_size=32, patch_size=8, **kwargs).eval()
    for value in vit.parameters():
        value.data = torch.randn_like(value) * 0.4
    return ViewedModel(title, vit, teachers={} if teacher is None else dict(teacher=teacher))


def picture(seed=0, height=32, width=32):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return ShownImage(f'picture {seed}', pixels)


def maps(figure):
    """What lies over the images, row by row: None, a map or colours."""
    return [axes.images[-1] if len(axes.images) > 1 else None for axes in figure.axes]


@torch.no_grad()
def test_figure_3():
    """Image, then each model's attention: of the last layer, from CLS to the patches, mean of the heads."""
    images, models = [picture(0), picture(1)], [student('MVP'), student('other')]
    figure = draw_attention_sheet(images, models)
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        'image',
        'MVP\nCLS attention',
        'other\nCLS attention',
    ]
    drawn = maps(figure)
    assert drawn[0] is None and drawn[3] is None and len(drawn) == 6
    for row, image in enumerate(images):
        assert np.array_equal(figure.axes[3 * row].images[0].get_array(), image.pixels)
        for column, model in enumerate(models):
            crop = model.normalised(resized(image.pixels, (4, 4), 8))
            *_, (attention, _) = model.student.blockwise(crop)
            shown = drawn[3 * row + 1 + column]
            expected = attention[0].mean(0)[0, 1:].reshape(4, 4)
            assert np.allclose(shown.get_array(), expected, atol=1e-6)
            assert shown.get_clim() == pytest.approx((0, float(expected.max())))


def test_everything_with_a_teacher(tiny_clip):
    teacher = CLIPTargetGenerator(tiny_clip('sheet'), pretrained=None, patch_size=8)
    model = student(teacher=teacher)
    points = [Point.parse('0.1,0.9'), Point.parse('20,3')]
    figure = draw_attention_sheet([picture()], [model], ALL, points)
    titles = [axes.get_title().replace('\n', ' ') for axes in figure.axes]
    of_student = ['CLS attention', 'head 1', 'head 2', 'head 3', 'rollout', 'similarity to 0.1,0.9']
    of_student += ['similarity to 20,3', 'PCA of tokens']
    of_teacher = ['CLS attention', 'head 1', 'head 2', *of_student[5:]]
    assert titles == ['image', *(f'S {t}' for t in of_student), *(f'teacher {t}' for t in of_teacher)]
    shown = dict(zip(titles, maps(figure), strict=True))
    pixels = resized(picture().pixels, (4, 4), 8)
    view, targets = view_student(model, pixels), view_teacher(model, pixels, with_attention=True)
    assert np.allclose(shown['S head 2'].get_array().ravel(), view.attention[1])
    assert np.allclose(shown['S rollout'].get_array().ravel(), view.rollout)
    assert np.allclose(shown['teacher head 1'].get_array().ravel(), targets.attention[0])
    assert torch.equal(targets.patches, teacher(model.normalised(pixels))[0, 1:])
    for name, tokens in (('S', view.patches), ('teacher', targets.patches)):
        similar = torch.cosine_similarity(tokens, tokens[3 * 4 + 0], dim=-1)
        drawn = shown[f'{name} similarity to 0.1,0.9']
        assert np.allclose(drawn.get_array().ravel(), similar, atol=1e-5)
        assert drawn.get_clim() == pytest.approx((float(similar.min()), 1.0), abs=1e-5)
        assert shown[f'{name} PCA of tokens'].get_array().shape == (4, 4, 3)
    frame = figure.axes[titles.index('S similarity to 20,3')].patches[0]
    assert frame.get_xy() == (15.5, -0.5) and (frame.get_width(), frame.get_height()) == (8, 8)


def test_any_shape_of_image_and_side():
    """Whole images of two shapes, at another size than trained at, one column an image."""
    images = [picture(0, 30, 61), picture(1, 50, 20)]
    figure = draw_attention_sheet(
        images, [student()], ('attention', 'pca'), side=16, style=SheetStyle(images_across=True)
    )
    shapes = [None if shown is None else shown.get_array().shape for shown in maps(figure)]
    assert shapes == [None, None, (2, 4), (5, 2), (2, 4, 3), (5, 2, 3)]
    assert figure.axes[2].get_ylabel() == 'S\nCLS attention'


@pytest.mark.parametrize(
    'model,options,message',
    [
        (dict(), dict(shows=['colours']), "'colours' cannot be shown; there are attention, heads"),
        (dict(), dict(shows=['similarity']), 'similarity needs the place of a patch'),
        (dict(), dict(points=[Point(0.5, 0.5, False)]), 'similarity is not among what is shown'),
        (dict(), dict(layer=2), 'S has no layer 2: it has 2'),
        (dict(), dict(side=4), 'a side of 4 pixels holds no patch of 8'),
        (
            dict(with_cls_token=False, use_rel_pos_bias=False, use_abs_pos_emb=True),
            dict(shows=['rollout']),
            'S has no CLS token',
        ),
    ],
)
def test_mistakes(model, options, message):
    with pytest.raises(ValueError, match=message):
        draw_attention_sheet([picture()], [student(**model)], **options)


def test_mistakes_with_teachers():
    model = student(teacher=PixelTargetGenerator(patch_size=8))
    with pytest.raises(
        ValueError, match='of a teacher there are attention, heads, similarity, pca, but no rollout'
    ):
        draw_attention_sheet([picture()], [model], ['rollout'])
    with pytest.raises(ValueError, match='attention of a PixelTargetGenerator cannot be had'):
        draw_attention_sheet([picture()], [model], ['attention'])
    assert len(draw_attention_sheet([picture()], [model], ['pca']).axes) == 3


@pytest.mark.parametrize('wrong', [dict(colours='none such'), dict(opacity=1.5), dict(panel=0)])
def test_style(wrong):
    with pytest.raises(ValueError):
        SheetStyle(**wrong)
