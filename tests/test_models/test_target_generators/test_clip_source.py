"""Where a CLIP teacher comes from, and which are refused."""

import json
import shutil

import open_clip
import pytest
import torch

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators.clip import clip_width

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
OPENAI = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
NONE = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])  # MobileCLIP's


def normalised(pixels, statistics):
    mean, std = (torch.tensor(statistics[key]).view(3, 1, 1) for key in ('mean', 'std'))
    return (pixels - mean) / std


@torch.no_grad()
def assert_embeds_as(generator, model, statistics):
    """The first target of a picture is the image embedding of open_clip's own model."""
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model.encode_image(normalised(pixels, statistics))
    assert (generator(normalised(pixels, IMAGENET))[:, 0] - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    'weights,pretrained',
    [('open_clip_model.safetensors', 'openai'), ('open_clip_pytorch_model.bin', None), ('my_own.pt', True)],
)
def test_folder(clip_folder, weights, pretrained, warnings):
    """Its weights, activation and statistics are taken, and nobody says that they are random."""
    folder, model = clip_folder(weights=weights, preprocess=IMAGENET, quick_gelu=True)
    for name in (str(folder), f'local-dir:{folder}'):
        generator = CLIPTargetGenerator(name, pretrained, patch_size=8)
        assert_embeds_as(generator, model, IMAGENET)
    assert warnings == []
    assert clip_width(str(folder), pretrained) == generator.out_channels == 24


def test_folder_of_several_teacher_weights(clip_folder):
    folder, model = clip_folder(weights='a.pt')
    shutil.copy(folder / 'a.pt', folder / 'b.pt')
    with pytest.raises(ValueError, match=r'several weight files \(a.pt, b.pt\).*target_generator.pretrained'):
        CLIPTargetGenerator(str(folder), patch_size=8)
    assert_embeds_as(CLIPTargetGenerator(str(folder), 'b.pt', patch_size=8), model, OPENAI)
    with pytest.raises(FileNotFoundError, match="'c.pt' is no existing weight file.*come with it"):
        CLIPTargetGenerator(str(folder), 'c.pt', patch_size=8)
    for path in folder.glob('*.pt'):
        path.unlink()
    with pytest.raises(FileNotFoundError, match='no weights in .*open_clip_model.safetensors'):
        CLIPTargetGenerator(str(folder), patch_size=8)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match='no folder gone'):
        CLIPTargetGenerator('local-dir:gone')
    (tmp_path / 'config.json').write_text('{}')
    with pytest.raises(FileNotFoundError, match='no open_clip_config.json.*give timm:local-dir:'):
        CLIPTargetGenerator(str(tmp_path))
    with pytest.raises(ValueError, match='names no model'):
        CLIPTargetGenerator('local-dir:')
    for content, match in (
        ('[]', 'no open_clip config'),
        ('{', 'is no JSON'),
        ('{"model_cfg": {"embed_dim": 4}}', 'expected embed_dim and vision_cfg'),
        ('{"model_cfg": {"embed_dim": 4, "vision_cfg": {"depth": 3}}}', 'cannot build .*depth'),
        (
            '{"model_cfg": {}, "preprocess_cfg": {"std": [1, 0, 1]}}',
            'preprocess_cfg.std=.*three numbers above 0',
        ),
    ):
        (tmp_path / 'open_clip_config.json').write_text(content)
        with pytest.raises(ValueError, match=match):
            CLIPTargetGenerator(str(tmp_path))


def test_hub(clip_folder, monkeypatch):
    folder, model = clip_folder(preprocess=NONE)
    asked = []

    def download(repository, filename=None, cache_dir=None):
        asked.append((repository, filename, cache_dir))
        return str(folder / (filename or 'open_clip_model.safetensors'))

    monkeypatch.setattr(open_clip.factory, 'download_pretrained_from_hf', download)
    generator = CLIPTargetGenerator('hf-hub:someone/a-clip', cache_dir='there', patch_size=8)
    assert_embeds_as(generator, model, NONE)
    assert asked == [
        ('someone/a-clip', 'open_clip_config.json', 'there'),
        ('someone/a-clip', None, 'there'),
    ]
    with pytest.raises(ValueError, match='expected hf-hub:owner/name'):
        CLIPTargetGenerator('hf-hub:a-clip')

    def unreachable(*args, **kwargs):
        raise FileNotFoundError('network is unreachable')

    monkeypatch.setattr(open_clip.factory, 'download_pretrained_from_hf', unreachable)
    with pytest.raises(FileNotFoundError, match='hf-hub:a/b could not be had.*--teacher FOLDER.*unreachable'):
        CLIPTargetGenerator('hf-hub:a/b')


class TestRefusedBeforeDownload:
    @pytest.fixture(autouse=True)
    def nothing_is_downloaded(self, monkeypatch):
        def download(*args, **kwargs):
            raise AssertionError('downloaded')

        for name in ('download_pretrained', 'download_pretrained_from_hf'):
            monkeypatch.setattr(open_clip.factory, name, download)

    @pytest.mark.parametrize(
        'name,tag,match',
        [
            ('coca_ViT-B-32', 'laion2b_s13b_b90k', 'pools its patch tokens by attention'),
            ('RN50-quickgelu', 'openai', 'no patch tokens.*ModifiedResNet'),
            ('ViT-B-16-SigLIP', 'webli', 'pools its patch tokens by attention'),
            ('PE-Core-T-16-384', 'meta', 'pools its patch tokens by attention'),
            ('MobileCLIP-S1', 'datacompdr', 'no CLS and patch tokens.*FastVit'),
            ('convnext_base', 'laion400m_s13b_b51k', 'no CLS and patch tokens.*ConvNeXt'),
            ('ViTamin-S', 'datacomp1b', 'no CLS and patch tokens'),
        ],
    )
    def test_kinds(self, name, tag, match):
        with pytest.raises(ValueError, match=match):
            CLIPTargetGenerator(name, tag)

    def test_pooling_that_shows_in_numbers_only(self, clip_folder, monkeypatch):
        """An image embedding that is neither CLS nor a mean is found with random weights."""
        monkeypatch.setattr(
            open_clip.transformer.VisionTransformer, '_pool', lambda self, x: (x.amax(1), x[:, 1:])
        )
        with pytest.raises(ValueError, match='not its projected CLS token'):
            CLIPTargetGenerator(str(clip_folder()[0]), patch_size=8)

    def test_quick_gelu(self):
        """The advice never names the name just given."""
        with pytest.raises(ValueError, match="use model_name='ViT-B-32-quickgelu'"):
            CLIPTargetGenerator('ViT-B-32', 'laion400m_e32')
        with pytest.raises(ValueError, match='QuickGELU mismatch') as raised:
            CLIPTargetGenerator('roberta-ViT-B-32', 'laion2b_s12b_b32k')
        assert "model_name='roberta-ViT-B-32'" not in str(raised.value)
        assert 'hf-hub:laion/' in str(raised.value) and '"quick_gelu": false' in str(raised.value)

    def test_quick_gelu_that_timm_would_not_get(self, clip_folder):
        folder = clip_folder()[0]
        path = folder / 'open_clip_config.json'
        vision = dict(timm_model_name='vit_base_patch16_clip_224', timm_pool='token', image_size=224)
        path.write_text(json.dumps(dict(embed_dim=8, vision_cfg=vision, text_cfg={}, quick_gelu=True)))
        with pytest.raises(ValueError, match='asks for QuickGELU.*_quickgelu_ variant'):
            CLIPTargetGenerator(str(folder))


@pytest.mark.parametrize(
    'name,serves',
    [
        ('coca_base', True),
        ('coca_ViT-B-32', False),
        ('convnext_tiny', False),
        ('EVA02-B-16', True),
        ('MobileCLIP-B', True),
        ('MobileCLIP2-S0', False),
        ('nllb-clip-base', True),
        ('nllb-clip-base-siglip', False),
        ('PE-Core-T-16-384', False),
        ('RN50', False),
        ('swin_base_patch4_window7_224', False),
        ('ViT-L-14-CLIPA', True),
        ('ViT-S-16-alt', True),
        ('ViTamin-S', False),
        ('vit_medium_patch16_gap_256', False),
        ('vit_relpos_medium_patch16_cls_224', True),
        ('xlm-roberta-base-ViT-B-32', True),
    ],
)
def test_every_family_serves_or_is_refused(name, serves):
    """On the meta device; the width of those that serve is the joint space's."""
    if serves:
        assert clip_width(name, None) == open_clip.get_model_config(name)['embed_dim']
    else:
        with pytest.raises(ValueError, match='patch tokens'):
            clip_width(name, None)
