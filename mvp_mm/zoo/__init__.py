"""Models by name: configs, weights, and where both come from."""

from .custom_zoos import add_zoo as add_zoo
from .downloads import cache_dir as cache_dir
from .downloads import fetch_address as fetch_address
from .hub import download_weights as download_weights
from .hub import find_by_sha256 as find_by_sha256
from .hub import find_entry as find_entry
from .hub import find_weights as find_weights
from .hub import get_model as get_model
from .hub import list_models as list_models
from .hub import model_config as model_config
from .hub import register_in_mmpretrain as register_in_mmpretrain
