"""Samples from image files, whose draws come from their index and whose errors name the file."""

from ..samplers.sample_index import sample_draws
from .unreadable_file import unreadable_files_named


class SeededFiles:
    """A mixin for OpenMMLab's datasets of files, before their own class in the list of bases."""

    def prepare_data(self, idx: int) -> dict | None:
        """The packed sample of an index (:class:`SampleIndex` or int).

        Raises:
            UnreadableImageError: If one of its files cannot be decoded.
        """
        info = self.get_data_info(idx)
        paths = [info[key] for key in ('img_path', 'seg_map_path') if info.get(key)]
        with unreadable_files_named(*paths), sample_draws(idx):
            return self.pipeline(info)
