"""The report of loading a weight file."""

from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What was loaded from a weight file.

    Args:
        source: File or address.
        format: Whose names it has: ``'mmpretrain'``, ``'BEiT'`` (Microsoft, timm) or ``'transformers'``.
        prefix: What the transformer's names begin with in the file.
        others: Prefixes of further transformers in the file.
        ignored: The prefix that was asked for, if the file is a bare backbone without it.
        loaded: Parameters filled from the file.
        expanded: Tables copied from the shared one.
        resized: ``'name: from -> to'`` of tables and position embeddings.
        missing: Parameters of the model that keep their initialisation.
        unexpected: Entries of the file that the model has no place for.
    """

    source: str
    format: str
    prefix: str = ''
    others: list[str] = field(default_factory=list)
    ignored: str = ''
    loaded: list[str] = field(default_factory=list)
    expanded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        where = f' under {self.prefix}' if self.prefix else ''
        lines = [
            f'Pre-trained weights of {self.source} ({self.format} names{where}): {len(self.loaded)} loaded'
        ]
        if self.others:
            lines.append(
                f'  the file has other transformers too, under {", ".join(self.others)}: to take one, give '
                f'model.backbone.init_cfg.prefix={self.others[0]} (tools/export.py: --prefix)'
            )
        if self.ignored:
            lines.append(f'  there is no {self.ignored} in it: it is a bare backbone, and taken as a whole')
        for what in ('expanded', 'resized', 'missing', 'unexpected'):
            names = getattr(self, what)
            if names:
                shown = ', '.join(names[:6]) + (', ...' if len(names) > 6 else '')
                lines.append(f'  {what} ({len(names)}): {shown}')
        return '\n'.join(lines)
