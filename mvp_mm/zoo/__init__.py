"""Models by name: configs, weights, and where both come from."""

from .custom_zoos import add_zoo
from .downloads import cache_dir, fetch, fetch_address
from .entries import Entry
from .hub import download_weights, find_entry, get_model, list_models, model_config, register_in_mmpretrain

__all__ = [
    'Entry',
    'add_zoo',
    'cache_dir',
    'download_weights',
    'fetch',
    'fetch_address',
    'find_entry',
    'get_model',
    'list_models',
    'model_config',
    'register_in_mmpretrain',
]
