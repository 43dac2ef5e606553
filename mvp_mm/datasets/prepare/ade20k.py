"""ADE20K, the scene parsing benchmark of 150 classes (ADEChallengeData2016).

Address and counts are from the benchmark's page (sceneparsing.csail.mit.edu), the checksums from other
projects' downloaders (GluonCV, Segmenter). This project could not download the archive to confirm them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from ...hardware import usable_cores
from ...wording import listed
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
    """Make ``ADEChallengeData2016`` in ``root``, or verify it if it is there already; return its folder.

    ``mirrors`` are addresses to try before the official one, unless an ``archive`` is given; its ``sha256``
    is reported where none is given. ``thorough`` decodes every image instead of a sample.

    Raises:
        OSError: If no address gave the archive, ``archive`` does not exist, or ``root`` is a file.
        ValueError: If the archive or its content is not that of ADE20K; lists what is wrong.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f'{root} is a file: expected the folder in which {FOLDER} is made')
    folder = root / FOLDER

    def require_complete(folder: Path) -> None:
        if problems := verify_ade20k(folder, thorough, counts, progress):
            listed = '\n  '.join(problems)
            raise ValueError(f'this is not all of ADE20K as expected:\n  {listed}\n{advice}')

    if folder.exists():
        advice = 'Move it away to download it again'
        report(f'{folder} exists: nothing to download')
        require_complete(folder)
    else:
        note = f'{archive} was left as it is'
        if archive is None:
            archive = root / f'{FOLDER}.zip'
            download_file([*mirrors, URL], archive, sha256, require_archive, progress)
            note = f'{archive} was kept: delete it to download it again'
        require_archive(archive)
        require_sha256(archive, sha256, f'Nothing was unpacked; {note}')
        digests = file_digests(archive, 'sha256', *PUBLISHED)
        same = 'equal' if PUBLISHED.items() <= digests.items() else 'differ from'
        report(f'sha256 of {archive}: {digests["sha256"]}')
        report(f'Its md5 and sha1 {same} those that other projects publish; what is inside is verified next')
        advice = f'Nothing was left in {root}; {note}'
        unpack_archive(archive, folder, FOLDER, MAX_BYTES, require_complete, progress)
    found = ' and '.join(f'{count:,} {split}' for split, count in counts.items())
    how = 'all decoded' if thorough else f'at most {SAMPLE} per split decoded; --thorough decodes all'
    report(f'{folder}: {found} images with their annotations ({how})')
    return folder


def verify_ade20k(
    folder: Path, thorough: bool = False, counts: Mapping[str, int] = COUNTS, progress: bool = False
) -> list[str]:
    """List what is missing or wrong in an unpacked ADE20K, one line for each kind of fault.

    Every file is looked up by name. For 256 images per split, spread evenly, or if ``thorough`` for all,
    image and annotation are decoded and their sizes, modes and labels checked.
    """
    if not folder.is_dir():
        return [f'there is no folder {folder}']
    if not (folder / 'images').is_dir() and (folder / FOLDER / 'images').is_dir():
        return [f'{folder / FOLDER} is one level too deep: move its content up into {folder}']
    problems = []
    for split, count in counts.items():
        stems = {STEMS[split].format(number) for number in range(1, count + 1)}
        complete = set(stems)
        images, annotations = folder / 'images' / split, folder / 'annotations' / split
        for place, ending in ((images, '.jpg'), (annotations, '.png')):
            found = set(find_images(place, (ending,)).paths) if place.is_dir() else set()
            expected = {stem + ending for stem in stems}
            where = place.relative_to(folder)
            if lost := expected - found:
                problems.append(f'{where}: {len(lost):,} of {count:,} missing: {listed(sorted(lost))}')
            if more := found - expected:
                problems.append(f'{where}: {len(more):,} not of this data set: {listed(sorted(more))}')
            complete -= {name.removesuffix(ending) for name in lost}
        present = sorted(complete)
        if not thorough and len(present) > SAMPLE:
            present = [present[int(place)] for place in np.linspace(0, len(present) - 1, SAMPLE)]
        pairs = [(images / f'{stem}.jpg', annotations / f'{stem}.png') for stem in present]
        faults = defaultdict[tuple[Path, str], list[str]](list)
        bar = dict(desc=f'Verifying {split}', leave=False, disable=not progress)
        threads = min(8, usable_cores())  # Pillow decodes outside Python's lock
        for path, reason in filter(None, thread_map(_fault, pairs, max_workers=threads, **bar)):
            faults[path.parent.relative_to(folder), reason].append(path.name)
        for (where, reason), names in faults.items():
            share = f'{len(names):,} of {len(pairs):,} looked at'
            problems.append(f'{where}: {share}: {reason}: {listed(sorted(names))}')
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
        kind = f'{labels.format} of mode {labels.mode}'
        return pair[1], f'{kind}, expected PNG of mode L or P with labels as pixels'
    if np.asarray(labels).max() > LARGEST_LABEL:
        return pair[1], f'labels above {LARGEST_LABEL}'
    return None if labels.size == photograph.size else (pair[1], 'another size than its image')
