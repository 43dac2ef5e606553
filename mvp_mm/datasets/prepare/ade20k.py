"""ADE20K, the scene parsing benchmark of 150 classes (ADEChallengeData2016).

Address and counts are from the benchmark's page (sceneparsing.csail.mit.edu), the checksums from other
projects' downloaders (GluonCV, Segmenter). This project could not download the archive to confirm them.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ...hardware import usable_cores
from ..sources.image_files import find_images
from .download import download_file, file_digests, require_sha256
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
        OSError: If no address gave the archive, ``archive`` does not exist, or ``root`` is a file.
        ValueError: If the checksum differs, the archive is unsafe or damaged, or the content is not all of
            ADE20K; lists what is wrong.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f'{root} is a file: expected the folder in which {FOLDER} is made')
    folder = root / FOLDER

    def require_complete(folder: Path, advice: str) -> None:
        if problems := verify_ade20k(folder, thorough, counts, progress):
            listed = '\n  '.join(problems)
            raise ValueError(f'this is not all of ADE20K as expected:\n  {listed}\n{advice}')

    if folder.exists():
        report(f'{folder} exists: nothing to download')
        require_complete(folder, 'Move it away to download it again')
    else:
        note = f'{archive} was left as it is'
        if archive is None:
            archive = root / f'{FOLDER}.zip'
            download_file([*mirrors, URL], archive, sha256, require_archive, progress)
            note = f'{archive} was kept: delete it to download it again'
        require_archive(archive)
        require_sha256(archive, sha256, f'Nothing was unpacked; {note}')
        digests = file_digests(archive, 'sha256', *PUBLISHED)
        same = 'equal' if all(digests[name] == PUBLISHED[name] for name in PUBLISHED) else 'differ from'
        report(f'sha256 of {archive}: {digests["sha256"]}')
        report(f'Its md5 and sha1 {same} those that other projects publish; what is inside is verified next')
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
    """Find what is missing or wrong in an unpacked ADE20K; arguments as for :func:`prepare_ade20k`.

    Every file is looked up by name. For 256 images per split, spread evenly, or all, image and annotation are
    decoded and their sizes, modes and labels checked.

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
        faults: dict[tuple[Path, str], list[str]] = {}
        with ThreadPoolExecutor(min(8, usable_cores())) as pool:  # Pillow decodes outside Python's lock
            checked = pool.map(_fault, pairs)
            for fault in tqdm(checked, f'Verifying {split}', len(pairs), leave=False, disable=not progress):
                if fault is not None:
                    path, reason = fault
                    faults.setdefault((path.parent.relative_to(folder), reason), []).append(path.name)
        for (where, reason), names in faults.items():
            problems.append(f'{where}: {len(names):,} of {len(pairs):,} looked at: {reason}: {_first(names)}')
    return problems


def _fault(pair: tuple[Path, Path]) -> tuple[Path, str] | None:
    """Return the bad file of an image and its annotation, with the reason."""
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
        return pair[1], f'{found}, expected PNG of mode L or P with labels as pixels'
    if np.asarray(labels).max() > LARGEST_LABEL:
        return pair[1], f'labels above {LARGEST_LABEL}'
    return None if labels.size == photograph.size else (pair[1], 'another size than its image')


def _first(names: Sequence[str]) -> str:
    return ', '.join(names[:LISTED]) + (f' and {len(names) - LISTED:,} more' if len(names) > LISTED else '')
