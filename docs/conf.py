"""The site: ``python -m sphinx -W -b html docs docs/_build``."""

import re
from importlib.util import find_spec

import mvp_mm

project = 'mvp_mm'
version = release = mvp_mm.__version__
copyright = 'mvp_mm contributors'

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build', 'figures']
html_theme = 'furo'
html_title = f'mvp_mm {version}'

myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the signature has them, and Args says them in words
autodoc_mock_imports = [] if find_spec('mmdet') else ['mmdet']  # an extra of its own
# Classes that MMEngine and torch give members to without docstrings of this project's form.
autodoc_inherit_docstrings = False

# Links out of docs/ lead to files of the repository, which are no pages of the site: their paths are shown.
FILE_LINK = re.compile(r'(?<!!)\[([^\]]+)\]\(\.\./([^)]+)\)')


def show_paths(app, name, source) -> None:
    """``[text](../path)`` becomes the text and the path."""

    def shown(match: re.Match) -> str:
        text, path = match.groups()
        plain = text.strip('`')
        return f'`{path}`' if plain in path else f'{text} (`{path}`)'

    source[0] = FILE_LINK.sub(shown, source[0])


def setup(app) -> None:
    app.connect('source-read', show_paths)
