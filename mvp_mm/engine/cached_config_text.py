"""A config whose text is made once."""

from mmengine.config import Config


class OnceFormattedConfig(Config):
    """MMEngine's config, which remembers its text until it is changed.

    MMEngine has yapf format the whole config whenever its text is wanted: four times before a training
    begins, and in every checkpoint.
    """

    @classmethod
    def of(cls, cfg: Config) -> 'OnceFormattedConfig':
        """The same config; what changes in one of the two changes in the other."""
        same = cls.__new__(cls)
        same.__setstate__(cfg.__getstate__())
        return same

    @property
    def pretty_text(self) -> str:
        """The config as Python code."""
        content = repr(self._cfg_dict)
        known, text = self.__dict__.get('_formatted', (None, ''))
        if known != content:
            text = super().pretty_text
            self.__dict__['_formatted'] = content, text
        return text
