"""Where CLIP teachers come from, which are refused, and what comes with their weights."""

import hashlib
import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from clip_models import open_clip_model, saved
from safetensors.torch import save_file
from torch import nn

from mvp_mm.models import CLIPTargetGenerator
from mvp_mm.models.target_generators import clip_weights
from mvp_mm.models.target_generators.clip import clip_width
from mvp_mm.models.target_generators.clip_weights import find_clip
from mvp_mm.weights.locate import DOWNLOADERS

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


class TestQuickGELU:
    """It is decided by the tag, a config file beside the weights, OpenAI's sha256 or the user."""

    def test_tag(self, monkeypatch):
        with pytest.raises(ValueError, match="QuickGELU mismatch.*model_name='ViT-B-16-quickgelu'"):
            CLIPTargetGenerator('ViT-B-16', 'openai')
        monkeypatch.setattr(open_clip, 'get_pretrained_cfg', lambda *args: dict(quick_gelu=False))
        with pytest.raises(ValueError, match="QuickGELU mismatch.*model_name='ViT-B-16'"):
            CLIPTargetGenerator('ViT-B-16-quickgelu', 'a-tag')

    def test_local_file_must_tell(self, tiny_clip, tmp_path):
        config = tiny_clip('tell')
        weights = saved(open_clip_model(config), tmp_path)
        with pytest.raises(ValueError, match='does not tell whether.*quick_gelu=True'):
            CLIPTargetGenerator(config, weights, patch_size=8)
        CLIPTargetGenerator(config, weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='QuickGELU mismatch.*"quick_gelu": true'):
            CLIPTargetGenerator(config, weights, quick_gelu=True, patch_size=8)

    def test_metadata_of_a_teacher_trained_here(self, tiny_clip, tmp_path):
        config, path = tiny_clip('metadata'), tmp_path / 'weights.safetensors'
        weights = open_clip_model(config).state_dict()
        save_file(weights, path, dict(quick_gelu='True'))
        with pytest.raises(ValueError, match='True is what follows from the metadata of weights.safetensors'):
            CLIPTargetGenerator(config, str(path), patch_size=8)
        save_file(weights, path, dict(quick_gelu='False'))
        CLIPTargetGenerator(config, str(path), patch_size=8)

    @pytest.mark.parametrize('name', ['open_clip_config.json', 'weights.json'])
    def test_config_file_beside(self, tiny_clip, tmp_path, name):
        config = tiny_clip('beside')
        weights = saved(open_clip_model(config), tmp_path)
        (tmp_path / name).write_text(json.dumps(dict(model_cfg=dict(quick_gelu=True))))
        with pytest.raises(
            ValueError,
            match=f'QuickGELU mismatch.*True is what follows from the config file {name} beside it',
        ):
            CLIPTargetGenerator(config, weights, patch_size=8)
        (tmp_path / name).write_text(json.dumps(dict(model_cfg=dict(quick_gelu=False))))
        CLIPTargetGenerator(config, weights, patch_size=8)

    def test_model_config_in_the_same_folder(self, tiny_clip):
        config = tiny_clip('same', quick_gelu=True)
        weights = saved(open_clip_model(config), Path(config).parent)
        CLIPTargetGenerator(config, weights, patch_size=8)

    def test_openai_sha256(self, tiny_clip, tmp_path, monkeypatch):
        config = tiny_clip('sha')
        weights = saved(open_clip_model(config), tmp_path)
        digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
        monkeypatch.setitem(clip_weights.OPENAI_SHA256, digest, 'tiny')
        with pytest.raises(ValueError, match="QuickGELU mismatch.*OpenAI's published sha256"):
            CLIPTargetGenerator(config, weights, patch_size=8)

    def test_published_sha256_are_open_clips(self):
        listed = {
            Path(open_clip.get_pretrained_cfg(model, 'openai')['url']).parent.name: model
            for model in open_clip.list_pretrained_models_by_tag('openai')
            if 'quickgelu' in model and model.startswith('ViT')
        }
        assert listed
        if set(listed) <= {'', '.'}:
            pytest.skip("this open_clip takes OpenAI's weights from the hub and lists no addresses of theirs")
        assert {digest: listed.get(digest) for digest in clip_weights.OPENAI_SHA256} == dict(
            clip_weights.OPENAI_SHA256
        )


class TestWeightFiles:
    """OpenAI's, open_clip's and safetensors files; nothing that could run code."""

    def test_formats_agree(self, tiny_clip, tmp_path):
        config = tiny_clip('formats')
        model = open_clip_model(config)
        student = torch.randn(3, 3, 32, 32)
        state = model.state_dict()
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / 'a.safetensors')
        torch.save(dict(state_dict={f'module.{k}': v for k, v in state.items()}, epoch=3), tmp_path / 'b.pt')
        torch.save(model.visual.state_dict(), tmp_path / 'c.pt')
        targets = [
            CLIPTargetGenerator(config, str(tmp_path / name), quick_gelu=False, patch_size=8)(student)
            for name in ('a.safetensors', 'b.pt', 'c.pt')
        ]
        assert torch.equal(targets[0], targets[1]) and torch.equal(targets[0], targets[2])

    def test_torchscript_only_at_openais_sha256(self, tiny_clip, tmp_path, monkeypatch):
        config = tiny_clip('script', quick_gelu=True)
        model = open_clip_model(config)
        path = tmp_path / 'scripted.pt'
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
        with pytest.raises(ValueError, match='TorchScript archive, which is code'):
            CLIPTargetGenerator(config, str(path), quick_gelu=True, patch_size=8)

        class Holder(nn.Module):
            """Has CLIP's keys, in half precision and with OpenAI's extra entries."""

            def __init__(self):
                super().__init__()
                self.visual = model.visual.half()
                self.register_buffer('input_resolution', torch.tensor(32))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x

        torch.jit.trace(Holder(), torch.zeros(1)).save(str(path))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        monkeypatch.setitem(clip_weights.OPENAI_SHA256, digest, 'tiny')
        generator = CLIPTargetGenerator(config, str(path), patch_size=8)
        assert generator.teacher.proj.dtype == torch.float32

    def test_pickles_are_not_run(self, tiny_clip, tmp_path):
        import pickle

        target = tmp_path / 'created'

        class Bomb:
            def __reduce__(self):
                return Path.touch, (target,)

        path = tmp_path / 'bomb.pt'
        torch.save(Bomb(), path)
        path2 = tmp_path / 'bomb2.pt'
        path2.write_bytes(pickle.dumps(Bomb()))
        for file in (path, path2):
            with pytest.raises(ValueError, match='no plain weight file'):
                CLIPTargetGenerator(tiny_clip('bomb'), str(file), quick_gelu=False, patch_size=8)
        assert not target.exists()

    def test_wrong_shape_is_named(self, tiny_clip, tmp_path):
        weights = saved(open_clip_model(tiny_clip('narrow')), tmp_path)
        with pytest.raises(ValueError, match=r'visual.class_embedding has shape \(32,\), expected \(64,\)'):
            CLIPTargetGenerator(tiny_clip('wide', width=64), weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='has no visual.transformer.resblocks.2.ln_1.weight'):
            CLIPTargetGenerator(tiny_clip('deep', layers=3), weights, quick_gelu=False, patch_size=8)
        with pytest.raises(ValueError, match='tiny has no|has no visual.transformer.resblocks.1'):
            CLIPTargetGenerator(tiny_clip('flat', layers=1), weights, quick_gelu=False, patch_size=8)


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
            found = clip_weights._statistics(find_clip(name), Path('bare.pt'), {})
            assert [list(value) for value in found] == [statistics['mean'], statistics['std']]


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


def test_an_address(clip_folder, monkeypatch):
    folder, model = clip_folder(weights='a.pt')
    monkeypatch.setitem(DOWNLOADERS, 'hf', {'hf://lab/clip/a.pt': folder / 'a.pt'}.__getitem__)
    given = dict(pretrained='hf://lab/clip/a.pt', quick_gelu=False, patch_size=8)
    assert_embeds_as(CLIPTargetGenerator(str(folder), **given), model, OPENAI)
    with pytest.raises(FileNotFoundError, match='s3://lab/a.pt cannot be read'):
        CLIPTargetGenerator(str(folder), 's3://lab/a.pt', patch_size=8)


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
            ('coca_ViT-B-32', 'laion2b_s13b_b90k', 'VisionTransformer'),
            ('RN50-quickgelu', 'openai', 'ModifiedResNet'),
            ('ViT-B-16-SigLIP', 'webli', 'VisionTransformer'),
            ('PE-Core-T-16-384', 'meta', 'Eva'),
        ],
    )
    def test_kinds(self, name, tag, match):
        match = f"pools its patch tokens by attention.*is a {match}.*use space='hidden'"
        with pytest.raises(ValueError, match=match):
            CLIPTargetGenerator(name, tag)

    def test_config_of_another_kind_of_model(self, tmp_path):
        (tmp_path / 'other.json').write_text(json.dumps(dict(embed_dim=4, vision_cfg={}, genlip_cfg={})))
        with pytest.raises(ValueError, match='no image-text model of two towers.*genlip_cfg'):
            CLIPTargetGenerator(str(tmp_path / 'other.json'), None)

    def test_pooling_that_shows_in_numbers_only(self, clip_folder, monkeypatch):
        """An image embedding that is neither CLS nor a mean is found by running it."""
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
        ('convnext_tiny', True),
        ('EVA02-B-16', True),
        ('MobileCLIP-B', True),
        ('MobileCLIP2-S0', True),
        ('nllb-clip-base', True),
        ('nllb-clip-base-siglip', False),
        ('PE-Core-T-16-384', False),
        ('RN50', False),
        ('swin_base_patch4_window7_224', True),
        ('ViT-L-14-CLIPA', True),
        ('ViT-S-16-alt', True),
        ('ViTamin-S', True),
        ('vit_medium_patch16_gap_256', True),
        ('vit_relpos_medium_patch16_cls_224', True),
        ('xlm-roberta-base-ViT-B-32', True),
    ],
)
def test_every_family_serves_or_is_refused(name, serves):
    """On the meta device; the width of those that serve is the joint space's."""
    if serves:
        assert clip_width(name, None) == open_clip.get_model_config(name)['embed_dim']
    else:
        with pytest.raises(ValueError, match="use space='hidden'"):
            clip_width(name, None)
        assert clip_width(name, None, 'hidden') > 0


def test_openais_weights_by_tag(clip_folder, monkeypatch):
    """By whichever entry this open_clip has: its own address, or a repository of the hub."""
    folder, model = clip_folder(quick_gelu=True)
    config = json.loads((folder / 'open_clip_config.json').read_text())['model_cfg']
    monkeypatch.setattr(open_clip, 'get_model_config', lambda name: config)
    asked = []

    def download(entry, cache_dir=None, **_):
        asked.append((entry.get('url') or entry['hf_hub'], cache_dir))
        return str(folder / 'open_clip_model.safetensors')

    monkeypatch.setattr(open_clip.factory, 'download_pretrained', download)
    generator = CLIPTargetGenerator('ViT-B-16-quickgelu', 'openai', cache_dir='there', patch_size=8)
    ((place, where),) = asked
    assert where == 'there' and 'openai' in place
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.encode_image(generator._as_the_teacher_sees(images)[0])
    assert (generator(images)[:, 0] - expected).abs().max() < 1e-5
    assert generator._statistics[2].tolist() == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
