"""Lists of images with captions: CSV, TSV, JSON Lines, JSON, COCO captions, Parquet."""

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ...text.decode import encoding_of
from .captioned_source import captions_in
from .shard_index import label_of

# Names of columns, the first that is there counts: open_clip's, Hugging Face's, img2dataset's, COCO's.
IMAGE_KEYS = ('image', 'img_path', 'image_path', 'filepath', 'file_path', 'file_name', 'filename', 'path')
CAPTION_KEYS = ('caption', 'captions', 'text', 'texts', 'title', 'sentence', 'sentences')
# Of a list by the ending of its name.
ENDINGS = ('.csv', '.tsv', '.jsonl', '.ndjson', '.json', '.parquet')
Entry = tuple[str, list[str], int | None]  # an image, captions of it, its label


class Keys(NamedTuple):
    """Names of the columns of a list; None: one of the usual names, and no label."""

    image: str | None = None
    caption: str | None = None
    label: str | None = None


def read_list(path: Path, keys: Keys, encoding: str | None = None) -> Iterator[Entry]:
    """Yield the entries of a list; an image may have several.

    Args:
        path: File whose name ends in one of ``ENDINGS``.
        keys: Names of its columns.
        encoding: Default None: by the byte-order mark, else UTF-8.

    Raises:
        ValueError: At a line that is none, naming it.
    """
    readers = {'.csv': _separated, '.tsv': _separated, '.json': _json, '.parquet': _parquet}
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f'{path} is no list of captions: its name must end in {", ".join(ENDINGS)}')
    if encoding is None:
        with path.open('rb') as file:
            encoding = encoding_of(file.read(4)) or 'utf-8'
    columns: Keys | None = None
    try:
        for place, row in readers.get(ending, _json_lines)(path, encoding, keys):
            if not isinstance(row, dict):
                expected = '{"image": ..., "caption": ...}'
                raise ValueError(f'{place.rstrip(",")} is {json.dumps(row)[:40]!r}: expected {expected}')
            if columns is None or columns.caption is None or columns.image not in row:
                columns = _columns(path, list(row), keys)
            yield _entry(place, row, columns)
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is not in {error.encoding} ({error.reason}, {error.object[error.start :][:8]!r}): name '
            "its encoding, such as encoding='cp1252'"
        ) from error
    except LookupError as error:
        raise ValueError(f'{path}: {error}') from error
    except RecursionError as error:
        raise ValueError(f'{path} is nested too deeply to be a list of captions') from error


def _columns(path: Path, names: list[str], keys: Keys) -> Keys:
    def find(given: str | None, usual: tuple[str, ...], what: str) -> str | None:
        wanted = (given,) if given else usual
        found = next((name for name in wanted if name in names), None)
        if found is None and (given or what == 'image'):
            raise ValueError(
                f'{path} has the columns {", ".join(map(str, names))}, and none of {", ".join(wanted)}: give '
                f"{what}_key='NAME' (without a first line of names, write one)"
            )
        return found

    image, caption = find(keys.image, IMAGE_KEYS, 'image'), find(keys.caption, CAPTION_KEYS, 'caption')
    return Keys(image, caption, find(keys.label, (), 'label'))


def _entry(place: str, row: dict, columns: Keys) -> Entry:
    image, label = row.get(columns.image), row.get(columns.label) if columns.label else None
    if not isinstance(image, str) or not image.strip():
        found = 'no image' if image in (None, '') else f'the image {str(image)[:40]!r}'
        raise ValueError(f'{place} has {found}: expected a path')
    try:
        captions = captions_in(row.get(columns.caption))
        return image.strip(), captions, None if label in (None, '') else label_of(label)
    except (TypeError, ValueError) as error:
        raise ValueError(f'{place.rstrip(",")}: {error}') from error


def _separated(path: Path, encoding: str, keys: Keys) -> Iterator[tuple[str, Any]]:
    """CSV as spreadsheets write it; TSV without quotes, but those that pandas puts around a field."""
    is_tsv = path.suffix.lower() == '.tsv'
    # strict: an opening quote that nothing closes would make the rest of the list one caption
    options: dict[str, Any] = dict(delimiter='\t', quoting=csv.QUOTE_NONE) if is_tsv else dict(strict=True)
    with path.open(encoding=encoding, newline='') as file:
        reader = csv.DictReader(file, **options)
        try:
            for row in reader:
                place = f'{path}, line {reader.line_num},'
                if None in row:
                    fields = len(row) - 1 + len(row[None])
                    raise ValueError(
                        f'{place} has {fields} fields, expected {len(reader.fieldnames or ())}: put captions '
                        f'with {"tabs" if is_tsv else "commas"} in them into quotes'
                    )
                yield place, {key: _unquoted(value) for key, value in row.items()} if is_tsv else row
        except csv.Error as error:
            raise ValueError(
                f'{path}, line {reader.reader.line_num} or before: {error}. A quoted field ends with a '
                'quote, and quotes in it are doubled'
            ) from error


def _unquoted(value: str | None) -> str | None:
    quoted = value is not None and len(value) > 1 and value[0] == value[-1] == '"'
    return value[1:-1].replace('""', '"') if value is not None and quoted else value


def _json_lines(path: Path, encoding: str, keys: Keys) -> Iterator[tuple[str, Any]]:
    with path.open(encoding=encoding) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f'{path}, line {number} is no JSON: {error}') from error
            yield f'{path}, line {number},', row


def _json(path: Path, encoding: str, keys: Keys) -> Iterator[tuple[str, Any]]:
    """COCO's captions, or a list of rows."""
    text = path.read_text(encoding)
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f'{path} is no JSON: {error}. One row a line is JSON Lines: name it .jsonl'
        ) from error
    if isinstance(content, list):
        yield from ((f'{path}, entry {number},', row) for number, row in enumerate(content))
        return
    images = content.get('images') if isinstance(content, dict) else None
    if not isinstance(images, list) or not isinstance(content.get('annotations'), list):
        raise ValueError(f'{path} has no "images" and "annotations", as COCO\'s captions, and is no list')
    captions: dict[Any, list] = {}
    try:
        for annotation in content['annotations']:
            captions.setdefault(annotation.get('image_id'), []).append(annotation.get('caption'))
        names = {image.get('id'): image.get('file_name') for image in images}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} is none of COCO's lists of captions: {error}") from error
    if unknown := captions.keys() - names.keys():
        raise ValueError(f'{path} has captions of an image {min(map(str, unknown))} that it does not list')
    for number, name in names.items():
        yield f'{path}, image {number},', dict(file_name=name, captions=captions.get(number, []))


def _parquet(path: Path, encoding: str, keys: Keys) -> Iterator[tuple[str, Any]]:
    if importlib.util.find_spec('pyarrow') is None:
        raise ValueError(
            f"{path}: Parquet needs a package that is not installed: pip install 'mvp_mm[parquet]'"
        )
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            wanted = {key for key in keys if key} | {*IMAGE_KEYS, *CAPTION_KEYS}
            names = [name for name in file.schema_arrow.names if name in wanted]
            if not names:
                _columns(path, file.schema_arrow.names, keys)
            batches = file.iter_batches(columns=names)
            for number, row in enumerate(row for batch in batches for row in batch.to_pylist()):
                yield f'{path}, row {number},', row
    except (ArrowException, OSError) as error:
        raise ValueError(f'{path} is no Parquet file: {error}') from error
