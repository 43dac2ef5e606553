"""What the data pipeline does to images, and how long it takes, beside other pipelines."""

from .crop_comparison import CropComparison, compare_crops, write_sheet
from .loader_speed import (
    Timing,
    image_paths,
    loader_report,
    measure_loader,
    measure_pipelines,
    measure_stages,
    one_thread,
    speed_report,
)
from .shard_reading import measure_reading, reading_report

__all__ = [
    'CropComparison',
    'Timing',
    'compare_crops',
    'image_paths',
    'loader_report',
    'measure_loader',
    'measure_pipelines',
    'measure_reading',
    'measure_stages',
    'one_thread',
    'reading_report',
    'speed_report',
    'write_sheet',
]
