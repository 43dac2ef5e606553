"""Bring public datasets into the folders that the configs read, and say what is missing in them."""

from .ade20k import prepare_ade20k, verify_ade20k
from .download import ChecksumError, DownloadError, download_file, file_digests
from .imagenet import check_imagenet
from .unpack import require_archive, unpack_archive

__all__ = [
    'ChecksumError',
    'DownloadError',
    'check_imagenet',
    'download_file',
    'file_digests',
    'prepare_ade20k',
    'require_archive',
    'unpack_archive',
    'verify_ade20k',
]
