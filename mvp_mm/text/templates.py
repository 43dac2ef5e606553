"""Sentences around a class's name."""

from collections.abc import Callable, Sequence

from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

Template = str | Callable[[str], str]
Templates = str | Sequence[Template]
# CLIP's 80 sentences for ImageNet, the 7 that its authors found to do nearly as well, the bare name.
TEMPLATES: dict[str, tuple[Template, ...]] = {
    'openai': OPENAI_IMAGENET_TEMPLATES,
    'simple': SIMPLE_IMAGENET_TEMPLATES,
    'plain': ('{}',),
}


def filled(templates: Templates, name: str) -> list[str]:
    """Put a class's name into each template.

    Args:
        templates: A name of :data:`TEMPLATES`, or a list of strings with ``{}`` and of functions of the name.
        name: The name of a class.

    Returns:
        A sentence for each template, in their order.

    Raises:
        ValueError: ``templates`` is empty or an unknown name, or a template has no ``{}``.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            known = ', '.join(TEMPLATES)
            raise ValueError(f'templates {templates!r} are unknown: expected {known} or a list')
        templates = TEMPLATES[templates]
    if not templates:
        raise ValueError("templates is empty: expected at least one, such as 'a photo of a {}.'")
    for template in templates:
        if isinstance(template, str) and '{}' not in template:
            raise ValueError(f'template {template!r} has no place for a name: expected {{}} in it')
    return [t.replace('{}', name) if isinstance(t, str) else t(name) for t in templates]
