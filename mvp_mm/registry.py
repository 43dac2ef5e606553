"""Registries of the scope ``mvp_mm``, in which MMEngine looks up what a config inherits from ``mvp_mm::...``.

They are empty and pass every look-up on to mmpretrain's, where the components are registered, and MMEngine's.
"""

from mmengine.registry import Registry
from mmpretrain import registry as mmpretrain_registry

REGISTRIES = {
    # MMEngine imports the modules of the registry it asks, not those of its parents: name them again
    name: Registry(parent.name, parent=parent, scope='mvp_mm', locations=parent._locations)
    for name, parent in vars(mmpretrain_registry).items()
    if isinstance(parent, Registry) and parent.scope == 'mmpretrain'
}
