"""The scope ``mvp_mm``.

MMEngine marks what a config inherits from ``mvp_mm::...`` with the scope ``mvp_mm`` and then looks names up
in registries of that scope. The components themselves are registered with mmpretrain and MMEngine; these
registries hold nothing and pass every look-up on to mmpretrain's, and through them to MMEngine's.
"""

from mmengine.registry import Registry
from mmpretrain import registry as mmpretrain_registry

REGISTRIES = {
    # MMEngine imports the modules of the registry it asks, not those of its parents: name them again
    name: Registry(parent.name, parent=parent, scope='mvp_mm', locations=parent._locations)
    for name, parent in vars(mmpretrain_registry).items()
    if isinstance(parent, Registry) and parent.scope == 'mmpretrain'
}
