"""What the tests of config checks share."""

from pathlib import Path

import pytest

from mvp_mm.engine import argument_parser, load_config

ROOT = Path(__file__).parents[3]


def _load(config, *options):
    given = ['--cfg-options', *options] if options else []
    arguments = argument_parser('').parse_args([str(ROOT / 'configs' / config), *given])
    return load_config(arguments.config, cfg_options=arguments.cfg_options)


@pytest.fixture
def load():
    """``load(config, *options)``: a shipped config with options of a command line."""
    return _load


@pytest.fixture
def refusal():
    """``refusal(config, *options)``: the line that refuses it."""

    def refuse(config, *options):
        with pytest.raises(ValueError) as error:
            _load(config, *options)
        assert '\n' not in str(error.value)
        return str(error.value)

    return refuse
