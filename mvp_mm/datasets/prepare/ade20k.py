"""ADE20K, the scene parsing benchmark of 150 classes (ADEChallengeData2016).

The address and the counts are from the benchmark's page (sceneparsing.csail.mit.edu), the checksums from
other projects' downloaders (SHA-1 in GluonCV and Segmenter). This project could not download the archive and
has confirmed none of them: they are compared and reported, and only the user's own checksum is enforced. The
content is verified after unpacking in any case.
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
from .unpack import require_archive, unpack_archive

URL = 'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip'
PUBLISHED = dict(md5='7328b3957e407ddae1d3cbf487f149ef', sha1='219e1696abb36c8ba3a3afe7fb2f4b4606a897c7')
FOLDER = 'ADEChallengeData2016'
COUNTS = dict(training=20_210, validation=2_000)
STEMS = dict(training='ADE_train_{:08d}', validation='ADE_val_{:08d}')
LARGEST_LABEL = 150  # 0 is "other", 1 to 150 are the classes
MAX_BYTES = 16 << 30
SAMPLE = 256  # images per split that are decoded
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
        archive: The archive, if it has been downloaded by other means.
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
        ValueError: If the checksum differs, the archive is unsafe or damaged, or the content is not all of
            ADE20K; lists what is wrong.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f'{root} is a file: expected the folder in which {FOLDER} is made')
    folder = root / FOLDER

    def require_complete(folder: Path, advice: str) -> None:
        if problems := verify_ade20k(folder, thorough, counts, progress):
            listed = '\n'.join(f'  {problem}' for problem in problems)
            raise ValueError(f'this is not all of ADE20K as expected:\n{listed}\n{advice}')

    if folder.exists():
        report(f'{folder} exists: nothing to download')
        require_complete(folder, 'Move it away to download it again')
    else:
        if archive is None:
            archive = _download(root, mirrors, sha256, progress)
            note = f'{archive} was kept: delete it to download it again'
        else:
            require_archive(archive)
            note = f'{archive} was left as it is'
        _compare(archive, sha256, note, report)
        unpack_archive(
            archive,
            folder,
            FOLDER,
            MAX_BYTES,
            lambda unpacked: require_complete(unpacked, f'Nothing was left in {root}; {note}'),
            progress,
        )
    found = ' and '.join(f'{count:,} {split}' for split, count in counts.items())
    how = 'all decoded' if thorough else f'at most {SAMPLE} per split decoded; --thorough decodes all'
    report(f'{folder}: {found} images with their annotations ({how})')
    return folder


def verify_ade20k(
    folder: Path, thorough: bool = False, counts: Mapping[str, int] = COUNTS, progress: bool = False
) -> list[str]:
    """Find what is missing or wrong in an unpacked ADE20K.

    Every file is looked up by name. For 256 images per split, spread evenly, image and annotation are decoded
    and their sizes, modes and labels checked.

    Args:
        folder: The folder ``ADEChallengeData2016``.
        thorough: Decode all images. Takes minutes.
        counts: Number of images by split. Default: the data set's.
        progress: Show a progress bar on the error stream.

    Returns:
        One line for each kind of fault; empty if all is well.
    """
    if not folder.is_dir():
        return [f'there is no folder {folder}']
    if not (folder / 'images').is_dir() and (folder / FOLDER / 'images').is_dir():
        return [f'{folder / FOLDER} is one level too deep: move its content up into {folder}']
    problems = []
    for split, count in counts.items():
        stems = [STEMS[split].format(number) for number in range(1, count + 1)]
        complete = set(stems)
        images, annotations = folder / 'images' / split, folder / 'annotations' / split
        for place, ending in ((images, '.jpg'), (annotations, '.png')):
            names = find_images(place, (ending,)).paths if place.is_dir() else []
            found = {name.removesuffix(ending) for name in names}
            complete &= found
            where = place.relative_to(folder)
            if lost := [stem + ending for stem in stems if stem not in found]:
                problems.append(f'{where}: {len(lost):,} of {count:,} missing: {_first(lost)}')
            if more := sorted(stem + ending for stem in found.difference(stems)):
                problems.append(f'{where}: {len(more):,} not of this data set: {_first(more)}')
        present = sorted(complete)
        if not thorough and len(present) > SAMPLE:
            present = [present[int(place)] for place in np.linspace(0, len(present) - 1, SAMPLE)]
        pairs = [(images / f'{stem}.jpg', annotations / f'{stem}.png') for stem in present]
        faults: dict[str, list[str]] = {}
        with ThreadPoolExecutor(min(8, usable_cores())) as pool:  # Pillow decodes outside Python's lock
            checked = track(
                pool.map(_fault, pairs),
                f'Verifying {split}',
                total=len(pairs),
                console=Console(stderr=True),
                disable=not progress,
                transient=True,
            )
            for path, fault in filter(None, checked):
                where = path.parent.relative_to(folder)
                faults.setdefault(f'{where}: {{}} of {len(pairs):,} looked at: {fault}', []).append(path.name)
        problems += [f'{line.format(f"{len(names):,}")}: {_first(names)}' for line, names in faults.items()]
    return problems


def _fault(pair: tuple[Path, Path]) -> tuple[Path, str] | None:
    """Return the bad file of an image and its annotation, with the reason."""
    image, annotation = pair
    opened = []
    for path in pair:
        try:
            opened.append(Image.open(path))
            opened[-1].load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return path, 'cannot be read'
    photograph, labels = opened
    if labels.format != 'PNG' or labels.mode not in ('L', 'P'):
        # In other modes the pixels are colours, which the loader would take for labels.
        found = f'{labels.format} of mode {labels.mode}'
        return annotation, f'{found}, expected PNG of mode L or P with labels as pixels'
    if np.asarray(labels).max() > LARGEST_LABEL:
        return annotation, f'labels above {LARGEST_LABEL}'
    return None if labels.size == photograph.size else (annotation, 'another size than its image')


def _download(root: Path, mirrors: Sequence[str], sha256: str | None, progress: bool) -> Path:
    try:
        return download_file([*mirrors, URL], root / f'{FOLDER}.zip', sha256, require_archive, progress)
    except DownloadError as error:
        raise DownloadError(
            f'{error}\nOr download it by other means and give it with --archive FILE'
        ) from error


def _compare(archive: Path, sha256: str | None, note: str, report: Callable[[str], None]) -> None:
    """Report an archive's checksums, and refuse another SHA-256 than the user's."""
    digests = file_digests(archive, 'sha256', *PUBLISHED)
    found = digests.pop('sha256')
    if sha256 and found != sha256.strip().lower():
        raise ChecksumError(
            f'the sha256 of {archive} is {found}, expected {sha256}. Nothing was unpacked; {note}'
        )
    report(f'sha256 of {archive}: {found}' + (' (as expected)' if sha256 else ''))
    if sha256:
        return
    if digests == PUBLISHED:
        report(f'Its {" and ".join(digests)} equal those that other projects publish')
        return
    other = [name for name in PUBLISHED if digests[name] != PUBLISHED[name]]
    report(
        f'Note: its {" and ".join(other)} differ from what other projects publish, which this project could '
        'not confirm. What is inside is verified next'
    )


def _first(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (f' and {len(names) - LISTED:,} more' if len(names) > LISTED else '')
