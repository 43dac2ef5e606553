"""Inputs that several tests share; each is made here, none is downloaded."""

import json
import logging
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from PIL import Image
from yapf.yapflib import yapf_api

import mvp_mm  # noqa: F401  (registers the components)

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared'
# Programs that tests start find what pytest's `pythonpath` lets tests find.
SOURCES = [ROOT, *(ROOT / 'tests' / name for name in ('', 'test_engine', 'test_engine/test_checkpoint'))]
os.environ['PYTHONPATH'] = os.pathsep.join([*map(str, SOURCES), os.environ.get('PYTHONPATH', '')])

# The same tests everywhere; a GPU has tools/analysis_tools/gpu_check.py.
os.environ['CUDA_VISIBLE_DEVICES'] = ''

# torch keeps compiled code without regard to ATEN_CPU_CAPABILITY, and would run it where it does not fit.
compiled = f'mvp_mm_tests_{os.getuid()}_{torch.backends.cpu.get_cpu_capability()}'
os.environ['TORCHINDUCTOR_CACHE_DIR'] = str(Path(tempfile.gettempdir(), compiled))

# The tensors are tiny: a second thread waits longer than it computes.
torch.set_num_threads(int(os.environ.get('MVP_MM_TEST_THREADS', 1)))


@pytest.fixture(autouse=True, scope='session')
def own_cache_of_the_session(tmp_path_factory):
    """What fixtures cache is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TORCH_HOME', str(tmp_path_factory.mktemp('cache')))
        yield


@pytest.fixture(autouse=True)
def own_cache(own_cache_of_the_session, monkeypatch, tmp_path):
    """No test reads what another has cached, by other code perhaps."""
    monkeypatch.setenv('TORCH_HOME', f'{tmp_path}_cache')


FORMAT_CODE = yapf_api.FormatCode


@pytest.fixture(autouse=True)
def unformatted_configs(monkeypatch):
    """Leave the text of configs as MMEngine writes it: yapf takes up to two seconds for each run."""
    monkeypatch.setattr(yapf_api, 'FormatCode', lambda text, **options: (text, True))


@pytest.fixture
def formatted_configs(unformatted_configs, monkeypatch):
    """Lay out a config's text by yapf, as outside of the tests."""
    monkeypatch.setattr(yapf_api, 'FormatCode', FORMAT_CODE)


@pytest.fixture(autouse=True)
def nothing_left_to_the_next():
    """MMEngine's default scope and what logging leaves out are of the whole process."""
    kept = dict(DefaultScope._instance_dict)
    yield
    left_out = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    assert not left_out, 'the test left logging disabled'
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(kept)


@pytest.fixture(scope='session')
def photographs() -> Path:
    """Folder with 400 real photographs, one a class."""
    folder = SHARED / 'data' / 'imagenet_sample'
    if not folder.is_dir():
        pytest.skip('the sample of ImageNet photographs is not beside the project')
    return folder


@pytest.fixture(scope='session')
def reference() -> Path:
    """Folder with reference numbers."""
    folder = SHARED / 'reference'
    if not folder.is_dir():
        pytest.skip('the reference numbers are not beside the project')
    return folder


def write_images(folder: Path, count: int, size: tuple[int, int] = (80, 96), seed: int = 0) -> list[Path]:
    """Smooth random colour images as JPEG files."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        path = folder / f'{number:04d}.jpg'
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
        paths.append(path)
    return paths


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Folder with 8 small images in two sub-folders."""
    write_images(tmp_path / 'images' / 'a', 5)
    write_images(tmp_path / 'images' / 'b', 3, seed=1)
    return tmp_path / 'images'


TINY_CLIP = dict(
    embed_dim=24,
    vision_cfg=dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
    text_cfg=dict(context_length=8, vocab_size=32, width=16, heads=2, layers=1),
)


@pytest.fixture
def tiny_clip(tmp_path: Path):
    """Writer of small open_clip model configs: ``tiny_clip(name, **changes)`` gives the path."""

    def write(name: str = 'tiny', quick_gelu: bool = False, **vision) -> str:
        config = json.loads(json.dumps(TINY_CLIP))
        config['vision_cfg'].update(vision)
        if quick_gelu:
            config['quick_gelu'] = True
        folder = tmp_path / 'models'
        folder.mkdir(exist_ok=True)
        # open_clip keeps configs by name for the whole process, so every test has its own names
        path = folder / f'{name}-{abs(hash(str(tmp_path))) % 10**8}.json'
        path.write_text(json.dumps(config))
        return str(path)

    return write


@pytest.fixture
def assert_beits_schedule():
    """``check(cfg, iterations, warmup, floor, factor)``: a config's learning rate is BEiT's cosine_scheduler.

    ``iterations`` are those of an epoch, ``warmup`` counts epochs and begins at 1e-6 (BEiT: 0), ``floor``
    is the last rate, and ``factor`` that of a parameter group, on all rates.
    """

    def check(cfg, iterations, warmup, floor, factor=1.0):
        peak = cfg.optim_wrapper.optimizer.lr
        warmup, total = warmup * iterations, cfg.train_cfg.max_epochs * iterations

        def beits(iteration):
            if iteration < warmup:
                return 1e-6 + (peak - 1e-6) * iteration / (warmup - 1)
            cosine = math.cos(math.pi * (iteration - warmup) / (total - warmup))
            return floor + 0.5 * (peak - floor) * (1 + cosine)

        optimizer = torch.optim.SGD([torch.zeros(1)], lr=peak * factor)
        schedulers = []
        for scheduler in cfg.param_scheduler:
            scheduler = dict(scheduler)
            assert scheduler.pop('convert_to_iter_based')  # a step every iteration
            cls = PARAM_SCHEDULERS.get(scheduler.pop('type'))
            schedulers.append(
                cls.build_iter_from_epoch(optimizer=optimizer, epoch_length=iterations, **scheduler)
            )
        checked = {0, 1, warmup // 2, warmup - 1, warmup, (warmup + total) // 2, total - 1}
        for iteration in range(total):
            if iteration in checked:
                rate = optimizer.param_groups[0]['lr']
                assert rate == pytest.approx(factor * beits(iteration), rel=1e-4), iteration
            for scheduler in schedulers:
                scheduler.step()

    return check
