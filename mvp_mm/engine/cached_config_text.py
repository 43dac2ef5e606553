from mmengine.config import Config


class CachedConfigText(Config):
    """MMEngine's config, which keeps its text until it changes: yapf takes long to make it."""

    @classmethod
    def of(cls, cfg: Config) -> 'CachedConfigText':
        """Return the same config: a change of one is a change of the other."""
        same = cls.__new__(cls)
        same.__setstate__(cfg.__getstate__())
        return same

    @property
    def pretty_text(self) -> str:
        """The config as Python code."""
        content = repr(self._cfg_dict)
        cached, text = self.__dict__.get('_formatted', (None, ''))
        if cached != content:
            text = super().pretty_text
            self.__dict__['_formatted'] = content, text
        return text
