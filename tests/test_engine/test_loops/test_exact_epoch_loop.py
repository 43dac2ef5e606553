import pytest
from exact_runs import Watch, build

from mvp_mm.engine import ExactEpochLoop


def test_too_few_images_for_one_batch(tmp_path):
    runner = build(tmp_path, Watch(), size=3)
    runner._train_dataloader['drop_last'] = True
    message = '3 images do not fill one iteration of 1 process x 4 images .*: lower train_dataloader.batch'
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_position_of_another_length(tmp_path):
    """In epochs of another length a run goes on at the next one; after counted iterations, where they end."""
    runner = build(tmp_path, Watch())
    loop = runner.build_train_loop(runner._train_loop)
    assert type(loop) is ExactEpochLoop and len(loop.dataloader) == 6
    sizes = dict(images_per_iteration=4, images=24)
    for before, iterations, epoch, expected in ((6, 8, 1, (1, 8)), (5, 7, 1, (1, 6)), (None, 14, 0, (2, 14))):
        loop._iter, loop._epoch = iterations, epoch
        loop.prepare_restart(dict(sizes, iterations_per_epoch=before))
        assert (loop._epoch, loop._iter) == expected
