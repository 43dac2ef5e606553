"""ADE20K, the scene parsing benchmark of 150 classes (ADEChallengeData2016).

What is known of the archive, and how: the address and the counts are those of the benchmark's page
(sceneparsing.csail.mit.edu); the two checksums are those that public downloaders of other projects compare
with (SHA-1 in GluonCV's and Segmenter's, MD5 in others' data loaders); the size is hearsay. This project has
not been able to download the archive, so it has confirmed none of them: they are compared and reported, and
only a checksum that the user gives is enforced. What is inside is verified after unpacking in any case.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from ...hardware import usable_cores
from ..sources.image_files import find_images
from .download import ChecksumError, DownloadError, download_file, file_digests
from .unpack import UnpackLimits, require_archive, unpack_archive

URL = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'
BYTES = 967_382_037
PUBLISHED = dict(md5='7328b3957e407ddae1d3cbf487f149ef', sha1='219e1696abb36c8ba3a3afe7fb2f4b4606a897c7')
FOLDER = 'ADEChallengeData2016'
COUNTS = dict(training=20_210, validation=2_000)
STEMS = dict(training='ADE_train_{:08d}', validation='ADE_val_{:08d}')
LARGEST_LABEL = 150  # 0 is "other", 1 to 150 are the classes
# Five times what two files an image need, and the folders.
LIMITS = UnpackLimits(total_bytes=16 << 30, files=250_000, ratio=100.0)
SAMPLE = 256
LISTED = 5


def prepare_ade20k(
    root: Path,
    mirrors: Sequence[str] = (),
    archive: Path | None = None,
    sha256: str | None = None,
    thorough: bool = False,
    counts: Mapping[str, int] = COUNTS,
    report: Callable[[str], None] = print,
    progress: bool = True,
) -> Path:
    """Download, unpack and verify ADE20K; if it is there already, verify it.

    Args:
        root: Folder in which ``ADEChallengeData2016`` is made.
        mirrors: Further addresses of the archive, tried in order before the official one.
        archive: The archive, where it has been downloaded by other means.
        sha256: Its expected SHA-256. Default None: printed, so that it can be given next time.
        thorough: Decode every image and annotation instead of a sample.
        counts: Number of images by split. Default: the data set's.
        report: Takes lines of text. Default ``print``.
        progress: Show progress bars on the error stream.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: If ``archive`` does not exist.
        NotADirectoryError: If ``root`` is a file.
        DownloadError: If no address gave the archive.
        ValueError: If the checksum is another, the archive is unsafe or damaged, or what is in it, or in a
            folder that was there, is not all of ADE20K; lists what is wrong.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f'{root} is a file: expected the folder in which {FOLDER} is made')
    folder = root / FOLDER
    if folder.exists():
        report(f'{folder} is there already: nothing to download')
        _require_complete(folder, thorough, counts, progress, 'Move it away to download it again')
        report(_success(folder, thorough, counts))
        return folder

    if archive is None:
        archive = _download(root, mirrors, sha256, progress)
        own = f'{archive} was kept: delete it to download it again'
    else:
        require_archive(archive)
        own = f'{archive} was left as it is'
    digests = file_digests(archive, 'sha256', *PUBLISHED)
    if sha256 and digests['sha256'] != sha256.strip().lower():
        raise ChecksumError(
            f'the sha256 of {archive} is {digests["sha256"]}, expected {sha256}. Nothing was unpacked; {own}'
        )
    report(f'sha256 of {archive}: {digests["sha256"]}' + (' (as expected)' if sha256 else ''))
    if not sha256:
        report(_comparison(archive, digests))

    def complete(unpacked: Path) -> None:
        _require_complete(unpacked, thorough, counts, progress, f'Nothing was left in {root}; {own}')

    unpack_archive(archive, folder, inside=FOLDER, limits=LIMITS, check=complete, progress=progress)
    report(_success(folder, thorough, counts))
    return folder


def verify_ade20k(
    folder: Path, thorough: bool = False, counts: Mapping[str, int] = COUNTS, progress: bool = False
) -> list[str]:
    """Look for what is missing or wrong in an unpacked ADE20K.

    Every file is looked for by name. Of 256 images a split, spread evenly, the image is decoded and compared
    with its annotation in size, and the annotation's mode and labels are checked.

    Args:
        folder: The folder ``ADEChallengeData2016``.
        thorough: Decode all images. Takes minutes.
        counts: Number of images by split. Default: the data set's.
        progress: Show a progress bar on the error stream.

    Returns:
        One line for each kind of fault; none if all is well.
    """
    if not folder.is_dir():
        return [f'there is no folder {folder}']
    if not (folder / 'images').is_dir() and (folder / FOLDER / 'images').is_dir():
        return [f'{folder / FOLDER} is one level too deep: move its content up into {folder}']
    problems = []
    for split, count in counts.items():
        stems = [STEMS[split].format(number) for number in range(1, count + 1)]
        images, annotations = folder / 'images' / split, folder / 'annotations' / split
        absent = set()
        for place, ending in ((images, '.jpg'), (annotations, '.png')):
            names = find_images(place, (ending,)).paths if place.is_dir() else ()
            found = {name.removesuffix(ending) for name in names}
            lost = [stem + ending for stem in stems if stem not in found]
            more = sorted(stem + ending for stem in found.difference(stems))
            absent.update(name.removesuffix(ending) for name in lost)
            where = place.relative_to(folder)
            if lost:
                problems.append(f'{where}: {len(lost):,} of {count:,} missing: {_first(lost)}')
            if more:
                problems.append(f'{where}: {len(more):,} not of this data set: {_first(more)}')
        present = [stem for stem in stems if stem not in absent]
        if not thorough and len(present) > SAMPLE:
            present = [present[int(place)] for place in np.linspace(0, len(present) - 1, SAMPLE)]
        pairs = [(images / f'{stem}.jpg', annotations / f'{stem}.png') for stem in present]
        problems += _grouped_faults(folder, pairs, f'Verifying {split}', progress)
    return problems


def _pair_faults(image: Path, annotation: Path) -> list[tuple[Path, str]]:
    """What is wrong with an image and its annotation, and with which of them."""
    sizes = []
    for path in (image, annotation):
        try:
            with Image.open(path) as opened:
                opened.load()
                kind, mode = opened.format, opened.mode
                sizes.append(opened.size)
                labels = np.asarray(opened) if path == annotation else None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return [(path, 'cannot be read')]
    faults = []
    if kind != 'PNG' or mode not in ('L', 'P'):
        # of other modes, the pixels are colours: the loader would take them for labels
        faults.append(
            (annotation, f'{kind} of mode {mode}, expected PNG of mode L or P with labels as pixels')
        )
    elif labels.max() > LARGEST_LABEL:
        faults.append((annotation, f'labels above {LARGEST_LABEL}'))
    if sizes[0] != sizes[1]:
        faults.append((annotation, 'another size than its image'))
    return faults


def _grouped_faults(
    folder: Path, pairs: Sequence[tuple[Path, Path]], title: str, progress: bool
) -> list[str]:
    groups: dict[tuple[Path, str], list[str]] = {}
    with ThreadPoolExecutor(min(8, usable_cores())) as pool:  # Pillow decodes outside Python's lock
        results = pool.map(lambda pair: _pair_faults(*pair), pairs)
        shown = track(
            results,
            title,
            total=len(pairs),
            console=Console(stderr=True),
            disable=not progress,
            transient=True,
        )
        for faults in shown:
            for path, fault in faults:
                groups.setdefault((path.parent.relative_to(folder), fault), []).append(path.name)
    return [
        f'{where}: {len(names):,} of {len(pairs):,} looked at: {fault}: {_first(names)}'
        for (where, fault), names in groups.items()
    ]


def _download(root: Path, mirrors: Sequence[str], sha256: str | None, progress: bool) -> Path:
    try:
        return download_file(
            [*mirrors, URL], root / f'{FOLDER}.zip', sha256=sha256, check=require_archive, progress=progress
        )
    except DownloadError as error:
        raise DownloadError(
            f'{error}\nOr download it by other means and give it with --archive FILE'
        ) from error


def _comparison(archive: Path, digests: Mapping[str, str]) -> str:
    same = [name for name in PUBLISHED if digests[name] == PUBLISHED[name]]
    size = archive.stat().st_size
    if len(same) == len(PUBLISHED):
        return f'Its {" and ".join(same)} equal those that other projects publish'
    return (
        f'Note: its {" and ".join(name for name in PUBLISHED if name not in same)} differ from what other '
        f'projects publish, and it has {size:,} bytes where {BYTES:,} are known. This project has confirmed '
        'none of these numbers; what is inside is verified next'
    )


def _require_complete(
    folder: Path, thorough: bool, counts: Mapping[str, int], progress: bool, advice: str
) -> None:
    problems = verify_ade20k(folder, thorough, counts, progress)
    if problems:
        listed = '\n'.join(f'  {problem}' for problem in problems)
        raise ValueError(f'this is not all of ADE20K as expected:\n{listed}\n{advice}')


def _success(folder: Path, thorough: bool, counts: Mapping[str, int]) -> str:
    found = ' and '.join(f'{count:,} {split}' for split, count in counts.items())
    how = 'all decoded' if thorough else f'at most {SAMPLE} a split decoded; --thorough decodes all'
    return f'{folder}: {found} images with their annotations ({how})'


def _first(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (f' and {len(names) - LISTED:,} more' if len(names) > LISTED else '')
