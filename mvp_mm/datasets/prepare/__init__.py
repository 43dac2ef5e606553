"""Bring public datasets to this machine; check, survey and pack images before a training."""

from .ade20k import prepare_ade20k as prepare_ade20k
from .ade20k import verify_ade20k as verify_ade20k
from .download import ChecksumError as ChecksumError
from .download import DownloadError as DownloadError
from .download import download_file as download_file
from .download import file_digests as file_digests
from .imagenet import check_imagenet as check_imagenet
from .unpack import unpack_archive as unpack_archive
