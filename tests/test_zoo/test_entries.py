"""One true row for every config, in OpenMMLab's format."""

import hashlib
from pathlib import Path

import pytest
from mmengine.config.utils import _get_cfg_metainfo
from modelindex.load_model_index import load

import mvp_mm
from mvp_mm.zoo.entries import entry_of, rows_of, shipped_entries

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / 'configs').glob('*/*.py')
    if path.parent.name not in ('_base_', 'zero_shot')  # the latter evaluate models that have a row
)
ROWS = {
    row['Config']: row
    for path in sorted((ROOT / 'configs').glob('*/metafile.yml'))
    for row in rows_of(path.read_text(), str(path))
}


def test_one_row_a_config():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert sorted(model.config for model in index.models) == CONFIGS
    errors = [error for found in index.collect_check_errors() for error in found['errors']]
    # OpenMMLab's metafiles, and this one, name it from the top of the repository
    readmes = ('configs/mvp/README.md', 'configs/rils/README.md')
    assert errors == [f'Path to README file {path} is not a valid file.' for path in readmes]
    assert all((ROOT / path).is_file() for path in readmes)
    assert len({model.name for model in index.models}) == len(CONFIGS)
    assert all(model.full_model.metadata.data['Architecture'] for model in index.models)


@pytest.mark.parametrize('config', CONFIGS)
def test_mmengines_hub_finds_the_row(config):
    package = str(Path(mvp_mm.__file__).parent)
    row = _get_cfg_metainfo(package, config.removeprefix('configs/'))
    assert row['Config'] == config and row['Name'] == config[len('configs/') : -len('.py')].replace('/', '_')


@pytest.mark.parametrize('config', CONFIGS)
def test_figures_and_weights(config):
    row = ROWS[config]
    assert row['Results'] or row['Metadata']['Note'].startswith('Not trained by this project')
    if row['Weights'] is None:
        assert 'SHA256' not in row
        return
    assert hashlib.sha256((ROOT / row['Weights']).read_bytes()).hexdigest() == row['SHA256']


def test_the_papers_figures():
    """The main figures of Tables 1 to 5, as the docstrings of the configs have them."""
    for name in ('vitb16_in1k', 'vitl16_in1k', 'vitb16_in1k_100e', 'vitb16_in1k_dino'):
        config = f'configs/mvp/{name}.py'
        docstring = (ROOT / config).read_text().split('"""')[1]
        for value in ROWS[config]['Metadata']['Paper Results'].values():
            assert f'{value:.1f}' in docstring


def test_rows_that_are_none():
    with pytest.raises(ValueError, match='has no Name'):
        entry_of({'Config': 'a.py'}, ROOT)
    with pytest.raises(ValueError, match='a has no Config'):
        entry_of({'Name': 'a'}, ROOT)
    with pytest.raises(ValueError, match="SHA256 '123': expected 64"):
        entry_of({'Name': 'a', 'Config': 'a.py', 'SHA256': '123'}, ROOT)
    with pytest.raises(ValueError, match='no list `Models`'):
        rows_of('a: 1', 'a.yml')
    with pytest.raises(ValueError, match='a.yml cannot be read'):
        rows_of('!!python/object/apply:os.getcwd []', 'a.yml')
    assert set(mvp_mm.list_models()) <= set(shipped_entries())
