"""Teachers of transformers, small and random, against what the library itself returns."""

import json

import pytest
import torch
from torch import nn

from mvp_mm.models import TransformersTargetGenerator
from mvp_mm.models.target_generators.transformers import transformers_width

transformers = pytest.importorskip('transformers')
WIDTH, IMAGE = 32, 64
PLAIN = dict(
    hidden_size=WIDTH,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    image_size=IMAGE,
    patch_size=16,
)
NAFLEX = {key: value for key, value in PLAIN.items() if key != 'image_size'} | dict(num_patches=16)
STAGES = dict(embed_dim=16, depths=[1, 1], num_heads=[1, 2], image_size=IMAGE, patch_size=4)
CONVOLUTIONS = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])
TEXT = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=50)
#: Model type, config, tokens before those of patches, kind of CLS.
QUICK = [
    ('radio', PLAIN, 10, 'token'),
    ('siglip_vision_model', PLAIN, 0, 'pooled'),
    ('dinov2_with_registers', PLAIN, 5, 'token'),
    ('convnextv2', CONVOLUTIONS, 0, 'pooled'),
]
SLOW = [
    ('tipsv2_vision_model', PLAIN, 2, 'token'),
    ('dinov3_vit', dict(PLAIN, num_register_tokens=4), 5, 'token'),
    ('dinov3_convnext', CONVOLUTIONS, 1, 'pooled'),
    ('aimv2_vision_model', PLAIN, 0, 'pooled'),
    ('siglip2_vision_model', NAFLEX, 0, 'pooled'),
    ('clip_vision_model', PLAIN, 1, 'token'),
    ('dinov2', PLAIN, 1, 'token'),
    ('vit', PLAIN, 1, 'token'),
    ('beit', PLAIN, 1, 'token'),
    ('ijepa', PLAIN, 0, 'none'),
    ('pixio', PLAIN, 8, 'token'),
    ('swin', dict(STAGES, window_size=4), 0, 'pooled'),
    ('pvt_v2', {}, 0, 'none'),
]


@pytest.fixture(autouse=True)
def quiet():
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture
def folder(tmp_path):
    """``make(model_type, config)``: a folder with random weights that hide no mistake, and the model."""

    def make(kind, config):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **config)).eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path)
        statistics = dict(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6])
        processor = dict(image_processor_type='ViTImageProcessor', do_normalize=True, **statistics)
        (tmp_path / 'preprocessor_config.json').write_text(json.dumps(processor))
        return str(tmp_path), model

    return make


@torch.no_grad()
def compare(folder, kind, config, prefix, cls):
    path, model = folder(kind, config)
    generator = TransformersTargetGenerator(path, patch_size=16)
    assert generator.cls == cls and transformers_width(path) == generator.out_channels
    own = tuple(side // generator.teacher_patch_size * 16 for side in generator.teacher_image_size)
    pixels = torch.rand(2, 3, *own, generator=torch.Generator().manual_seed(0))
    student = (
        (pixels - generator.student_mean.view(3, 1, 1) / 255) / generator.student_std.view(3, 1, 1) * 255
    )
    seen, grid, _ = generator._as_the_teacher_sees(student)
    if seen.shape == pixels.shape:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
        assert (seen - (pixels - mean) / std).abs().max() < 1e-5
    targets, extra = generator(student), generator.num_extra_tokens
    assert targets.shape == (2, extra + grid[0] * grid[1], generator.out_channels)
    if kind == 'siglip2_vision_model':
        cut = nn.functional.unfold(seen, 16, stride=16).mT.unflatten(2, (3, 256)).mT.flatten(2)
        rows = dict(pixel_attention_mask=torch.ones(2, 16), spatial_shapes=torch.tensor([[4, 4]] * 2))
        expected = model(pixel_values=cut, **rows)
    else:
        expected = model(pixel_values=seen)
    last = expected.last_hidden_state
    last = last.flatten(2).mT if last.ndim == 4 else last
    assert last.shape[1] == prefix + grid[0] * grid[1]
    assert (targets[:, extra:] - last[:, prefix:]).abs().max() < 1e-5
    if cls != 'none':
        target = last[:, 0] if cls == 'token' else expected.pooler_output.flatten(1)
        assert (targets[:, 0] - target).abs().max() < 1e-5
        alone = TransformersTargetGenerator(path, patch_size=16, cls='none')(student)
        assert (alone - targets[:, 1:]).abs().max() < 1e-5
    oblong = generator(torch.randn(1, 3, 64, 96))
    assert oblong.shape[1] == extra + 24 and oblong.isfinite().all()


@pytest.mark.parametrize('kind,config,prefix,cls', QUICK)
def test_tokens_are_the_librarys(folder, kind, config, prefix, cls):
    compare(folder, kind, config, prefix, cls)


@pytest.mark.slow
@pytest.mark.parametrize('kind,config,prefix,cls', SLOW)
def test_tokens_are_the_librarys_slow(folder, kind, config, prefix, cls):
    compare(folder, kind, config, prefix, cls)


@torch.no_grad()
def test_tower_of_an_image_text_model(folder):
    path, model = folder('clip', dict(vision_config=PLAIN, text_config=TEXT, projection_dim=24))
    images = torch.randn(2, 3, IMAGE, IMAGE)
    hidden = TransformersTargetGenerator(path, patch_size=16)
    seen = hidden._as_the_teacher_sees(images)[0]
    tokens = model.vision_model(pixel_values=seen).last_hidden_state
    assert (hidden(images) - tokens).abs().max() < 1e-5
    joint = TransformersTargetGenerator(path, patch_size=16, space='joint')(images)
    embedding = model.visual_projection(model.vision_model(pixel_values=seen).pooler_output)
    assert joint.shape == (2, 17, 24) and (joint[:, 0] - embedding).abs().max() < 1e-5
    patches = model.visual_projection(model.vision_model.post_layernorm(tokens[:, 1:]))
    assert (joint[:, 1:] - patches).abs().max() < 1e-5


def test_a_pooler_that_the_file_does_not_hold(folder):
    path, model = folder('vit', PLAIN)
    without = {key: value for key, value in model.state_dict().items() if 'pooler' not in key}
    model.save_pretrained(path, state_dict=without)
    with pytest.raises(ValueError, match=r"cls='pooled' is not possible.*choose of \['token', 'none'\]"):
        TransformersTargetGenerator(path, patch_size=16, cls='pooled')
    assert TransformersTargetGenerator(path, patch_size=16).cls == 'token'
    model.save_pretrained(path, state_dict={k: v for k, v in without.items() if 'layernorm' not in k})
    with pytest.raises(ValueError, match='does not fit ViTModel: it has no .*norm'):
        TransformersTargetGenerator(path, patch_size=16)


class TestRefused:
    def test_joint_space_of_attention_pooling(self, folder):
        path, _ = folder('siglip', dict(vision_config=PLAIN, text_config=TEXT))
        with pytest.raises(ValueError, match="no projection from single tokens.*use space='hidden'"):
            TransformersTargetGenerator(path, patch_size=16, space='joint')

    def test_models_without_a_map(self, folder):
        path, _ = folder('bert', TEXT)
        with pytest.raises(ValueError, match='is a BertModel, which has no vision tower'):
            TransformersTargetGenerator(path)
        path, _ = folder('vit_mae', PLAIN)
        with pytest.raises(ValueError, match='random or unknown order'):
            TransformersTargetGenerator(path)

    def test_code_beside_the_weights_is_not_run(self, tmp_path):
        """Unless asked for: the file would leave a trace."""
        code = f"""
            from pathlib import Path
            Path({str(tmp_path / 'ran')!r}).touch()
            import torch
            from transformers import PretrainedConfig, PreTrainedModel
            from transformers.modeling_outputs import BaseModelOutput
            class OwnConfig(PretrainedConfig):
                model_type = 'own'
            class OwnModel(PreTrainedModel):
                config_class = OwnConfig
                main_input_name = 'pixel_values'
                def __init__(self, config):
                    super().__init__(config)
                    self.embed = torch.nn.Conv2d(3, 8, 16, 16)
                    self.post_init()
                def forward(self, pixel_values):
                    return BaseModelOutput(last_hidden_state=self.embed(pixel_values).flatten(2).mT)
        """
        lines = [line[12:] for line in code.splitlines()]
        (tmp_path / 'own.py').write_text('\n'.join(lines))
        auto = dict(AutoConfig='own.OwnConfig', AutoModel='own.OwnModel')
        config = dict(model_type='own', auto_map=auto, image_size=IMAGE, patch_size=16)
        (tmp_path / 'config.json').write_text(json.dumps(config))
        with pytest.raises(ValueError, match='not run unless .*trust_remote_code=True'):
            TransformersTargetGenerator(str(tmp_path), None, patch_size=16)
        assert not (tmp_path / 'ran').exists()
        options = dict(trust_remote_code=True, patch_size=16)
        generator = TransformersTargetGenerator(str(tmp_path), None, **options)
        assert (tmp_path / 'ran').exists() and generator.cls == 'none'
        assert generator(torch.randn(1, 3, IMAGE, IMAGE)).shape == (1, 16, 8)

    def test_places(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='holds no config.json of transformers'):
            TransformersTargetGenerator(str(tmp_path))
        with pytest.raises(FileNotFoundError, match='neither a folder nor owner/name'):
            TransformersTargetGenerator('no-such-folder')
        (tmp_path / 'config.json').write_text('{"model_type": "nonesuch"}')
        with pytest.raises(ValueError, match='transformers cannot load .*nonesuch'):
            TransformersTargetGenerator(str(tmp_path))
