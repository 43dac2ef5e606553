"""MVP: Multimodality-guided Visual Pre-training, as a plug-in for the OpenMMLab stack.

Importing this package registers its components, checks the versions of what it stands on and makes
``mvp_mm::`` and ``mmseg::`` configs resolve. It builds no model and touches no network.
"""

from . import stack
from .renamed import register_old_modules
from .version import __version__

with stack.quiet_stack_noise():
    stack.provide_ops()
    stack.check_versions()
    stack.leave_out_multimodal()
    stack.register_config_scopes()
    register_old_modules()
    from . import datasets, engine, evaluation, models, registry, zoo
    from .console import finetune, pretrain, probe, segment
    from .datasets.transforms.decode_image import open_rgb
    from .models.speaking.speaks import OPENERS
    from .weights.locate import BY_SHA256, DOWNLOADERS, PUBLISHED
    from .zoo import add_zoo, get_model, list_models, register_in_mmpretrain

    engine.register_safe_loading()
    DOWNLOADERS.update(http=zoo.fetch_address, https=zoo.fetch_address)
    PUBLISHED.append(zoo.find_weights)
    BY_SHA256.append(zoo.find_by_sha256)
    OPENERS.append(open_rgb)
    register_in_mmpretrain()

__all__ = [
    '__version__',
    'add_zoo',
    'datasets',
    'engine',
    'evaluation',
    'finetune',
    'get_model',
    'list_models',
    'models',
    'pretrain',
    'probe',
    'registry',
    'segment',
]
