"""Where a CLIP teacher comes from, and the mean and std that come with it."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators import teacher_weights as weight_files
from mvp_mm.models.target_generators.clip import clip_width
from mvp_mm.models.target_generators.clip_source import find_clip
from mvp_mm.models.target_generators.clip_weights import _statistics

IMAGENET = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
OPENAI = dict(mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD)
NONE = dict(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0])  # MobileCLIP's


def normalised(pixels, statistics):
    mean, std = (torch.tensor(statistics[key]).view(3, 1, 1) for key in ('mean', 'std'))
    return (pixels - mean) / std


@pytest.fixture
def clip_folder(tiny_clip, tmp_path):
    """``make(name, weights, preprocess, quick_gelu)``: a folder as of the hub, and open_clip's own model."""

    def make(name='clip', weights='open_clip_model.safetensors', preprocess=None, quick_gelu=False):
        folder = tmp_path / name
        folder.mkdir()
        config = json.loads(Path(tiny_clip(name, quick_gelu)).read_text())
        content = dict(model_cfg=config, **({} if preprocess is None else dict(preprocess_cfg=preprocess)))
        (folder / 'open_clip_config.json').write_text(json.dumps(content))
        torch.manual_seed(1)
        model = open_clip.CLIP(**config).eval()
        state = {key: value.contiguous() for key, value in model.state_dict().items()}
        if weights.endswith('.safetensors'):
            save_file(state, folder / weights)
        else:
            torch.save(state, folder / weights)
        return folder, model

    return make


@torch.no_grad()
def assert_embeds_as(generator, model, statistics):
    """The first target of a picture is the image embedding of open_clip's own model."""
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model.encode_image(normalised(pixels, statistics))
    assert (generator(normalised(pixels, IMAGENET))[:, 0] - expected).abs().max() < 1e-5


@pytest.fixture
def warnings(monkeypatch):
    """What is said of random weights and of statistics that are not known."""
    said = []
    monkeypatch.setattr(weight_files, 'print_log', lambda text, **kwargs: said.append(text))
    return said


@pytest.mark.parametrize(
    'weights', ['open_clip_model.safetensors', 'open_clip_pytorch_model.bin', 'my_own.pt']
)
@pytest.mark.parametrize('pretrained', ['openai', None, True])
def test_folder(clip_folder, weights, pretrained, warnings):
    """Its weights, activation and statistics are taken, and nobody says that they are random."""
    folder, model = clip_folder(weights=weights, preprocess=IMAGENET, quick_gelu=True)
    for name in (str(folder), f'local-dir:{folder}'):
        generator = CLIPTargetGenerator(name, pretrained, patch_size=8)
        assert_embeds_as(generator, model, IMAGENET)
    assert warnings == []
    assert clip_width(str(folder), pretrained) == generator.out_channels == 24


def test_folder_of_several_weight_files(clip_folder):
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


class TestStatistics:
    """Of the arguments, the config beside a file, the model config, open_clip's tags, or OpenAI's."""

    def of(self, *args, **kwargs):
        generator = CLIPTargetGenerator(*args, patch_size=8, **kwargs)
        mean, std = generator._statistics[2:]
        return [round(value, 3) for value in (*mean.tolist(), *std.tolist())]

    def rounded(self, statistics):
        return [round(value, 3) for value in (*statistics['mean'], *statistics['std'])]

    @pytest.mark.parametrize('beside', [IMAGENET, NONE, None])
    def test_config_beside_a_file(self, clip_folder, tiny_clip, beside):
        folder, model = clip_folder(preprocess=beside)
        weights = str(folder / 'open_clip_model.safetensors')
        generator = CLIPTargetGenerator(tiny_clip('of-file'), weights, patch_size=8)
        assert_embeds_as(generator, model, beside or OPENAI)

    def test_arguments_come_first(self, clip_folder):
        folder = str(clip_folder(preprocess=NONE)[0])
        assert self.of(folder, teacher_mean=IMAGENET['mean']) == [0.485, 0.456, 0.406, 1, 1, 1]
        assert self.of(folder, teacher_std=[0.5, 0.5, 0.25]) == [0, 0, 0, 0.5, 0.5, 0.25]

    @pytest.mark.parametrize(
        'wrong,match',
        [
            (dict(teacher_mean=[0.5, 0.5]), r'teacher_mean=\[0.5, 0.5\]: expected three numbers'),
            (dict(teacher_mean=0.5), 'teacher_mean=0.5: expected three numbers'),
            (dict(teacher_std=[0.5, 0.5, 0.0]), 'teacher_std=.*three numbers above 0'),
            (dict(teacher_std=[0.5, 0.5, -0.5]), 'teacher_std=.*three numbers above 0'),
            (dict(teacher_std=[0.5, float('nan'), 0.5]), 'teacher_std='),
            (dict(teacher_std=['a', 'b', 'c']), 'teacher_std='),
            (dict(teacher_mean=[123.675, 116.28, 103.53]), 'divide them by 255'),
            (dict(student_std=[58.0, 57.0, 0.0]), 'student_std=.*of the 0-255 scale'),
        ],
    )
    def test_wrong_arguments(self, tiny_clip, wrong, match):
        with pytest.raises(ValueError, match=match):
            CLIPTargetGenerator(tiny_clip('wrong'), None, patch_size=8, **wrong)

    def test_model_config(self, clip_folder, tmp_path):
        folder = clip_folder(preprocess=IMAGENET)[0]
        away = shutil.move(folder / 'open_clip_model.safetensors', tmp_path / 'away.safetensors')
        config = str(folder / 'open_clip_config.json')
        assert self.of(config, str(away), quick_gelu=False) == self.rounded(IMAGENET)
        assert self.of(config, None) == self.rounded(IMAGENET)

    def named_as(self, monkeypatch, tiny_clip, tags):
        """Let the tiny model be one of open_clip's, with these statistics of its tags."""
        config = Path(tiny_clip('named'))
        open_clip.add_model_config(config)
        monkeypatch.setattr(open_clip, 'list_pretrained_tags_by_model', lambda name: list(tags))
        monkeypatch.setattr(open_clip, 'get_pretrained_cfg', lambda name, tag: tags.get(tag, {}))
        return config.stem

    def test_tag(self, clip_folder, tiny_clip, monkeypatch):
        folder, model = clip_folder(weights='of_tag.pt', preprocess=NONE)
        name = self.named_as(monkeypatch, tiny_clip, dict(a=dict(IMAGENET, hf_hub='x/y/')))
        monkeypatch.setattr(
            open_clip.factory, 'download_pretrained', lambda config, cache_dir=None: str(folder / 'of_tag.pt')
        )
        assert_embeds_as(CLIPTargetGenerator(name, 'a', patch_size=8), model, IMAGENET)

    def test_file_of_a_model_with_tags(self, clip_folder, tiny_clip, monkeypatch, warnings):
        folder = clip_folder(weights='bare.pt')[0]
        (folder / 'open_clip_config.json').unlink()
        bare = str(folder / 'bare.pt')
        tags = dict(a=NONE, b=NONE, c=dict(IMAGENET, quick_gelu=True))
        name = self.named_as(monkeypatch, tiny_clip, tags)
        assert self.of(name, bare, quick_gelu=False) == self.rounded(NONE)
        assert warnings == []
        tags['d'] = IMAGENET
        assert self.of(name, bare, quick_gelu=False) == self.rounded(NONE)
        (warning,) = warnings
        assert 'does not tell the mean and std' in warning and '(d: mean (0.485' in warning

    def test_open_clips_own(self):
        """Models whose weights have other statistics than OpenAI's, by name only."""
        for name, statistics in (('ViT-L-14-CLIPA', IMAGENET), ('MobileCLIP-B', NONE)):
            found = _statistics(find_clip(name), Path('bare.pt'), None)
            assert [list(value) for value in found] == [statistics['mean'], statistics['std']]


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


@torch.no_grad()
def test_model_whose_vision_branch_gives_two_outputs(tiny_clip):
    """As coca_base: ``output_tokens`` in its config."""
    generator = CLIPTargetGenerator(tiny_clip('two', output_tokens=True), None, patch_size=8)
    plain = CLIPTargetGenerator(tiny_clip('one'), None, patch_size=8)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(generator(images), plain(images))
