import json
from contextlib import suppress
from pathlib import Path

import exact_runs
import pytest
import torch
from exact_runs import Killed, Watch, build, finish
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchrun_jobs import forked

from mvp_mm.datasets.samplers.sample_index import SampleIndex, sample_entropy, seeded_draws
from mvp_mm.engine import EvaluatorStateHook, build_runner, load_config
from mvp_mm.evaluation import OnlineProbe, online_probe
from mvp_mm.evaluation.online_probe import _steps

ROOT = Path(__file__).parents[2]


class Clusters(Dataset):
    """Points around one centre a class, augmented by seeded draws."""

    def __init__(self, size=10, classes=3):
        self.size, self.classes = size, classes
        self.metainfo = dict(classes=tuple(range(classes)))

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        label = int(index) % self.classes
        with seeded_draws(*sample_entropy(index)):
            inputs = 3 * torch.eye(6)[label, :3] + 0.3 * torch.randn(3)
        return dict(inputs=inputs, gt_label=torch.tensor(label))


class Student(exact_runs.Model):
    """One that forgets its mode and draws: batch normalisation, dropout."""

    def encode_image(self, inputs, mask=None):
        cls = self.layers[:-1](inputs)
        return cls, torch.stack([cls, inputs @ self.layers[0].weight.T], 1)


def probe_config(**more):
    loader = dict(
        batch_size=4,
        num_workers=0,
        collate_fn=dict(type='default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=Clusters(),
    )
    return dict(type='OnlineProbe', dataloader=loader, train_dataloader=dict(loader), **more)


def run(folder, watch, *evaluators, **more):
    """A run of exact_runs, with these evaluators."""
    if evaluators:
        more |= dict(val_dataloader={}, val_evaluator={})
        more |= dict(val_cfg=dict(type='EvaluatorLoop', evaluators=list(evaluators)))
    return build(folder, watch, saved_by_epoch=False, interval=2, default_scope='mmpretrain', **more)


def saved(folder, name='iter_12.pth'):
    return torch.load(folder / name, weights_only=True).get('evaluators')


def assert_equal(first, second):
    """Nested states, bit for bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert_equal(value, second[key])
    else:
        assert first == second


@pytest.fixture
def student(monkeypatch):
    monkeypatch.setattr(exact_runs, 'Model', Student)


def test_the_run_does_not_notice(student, tmp_path):
    """Weights and losses are the same bits with a probe, with workers, and without."""
    watch = Watch()
    runner = run(tmp_path / 'without', watch)
    losses, state = finish(runner, watch)
    assert not any(isinstance(hook, EvaluatorStateHook) for hook in runner.hooks)
    assert saved(tmp_path / 'without') is None
    for workers in (0, 1):
        config = probe_config(train_interval=2)
        config['train_dataloader'].update(num_workers=workers)
        watch = Watch()
        found, weights = finish(run(tmp_path / f'with-{workers}', watch, config), watch)
        assert found == losses and len(losses) == 12
        assert_equal(weights, state)
    probe = saved(tmp_path / 'with-0')['online_probe']
    assert probe['step'] == 6 and probe['classifier']['weight'].abs().max() > 0
    assert_equal(saved(tmp_path / 'with-1')['online_probe'], probe)


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [True, False])
def test_resumed_bit_for_bit(student, tmp_path, by_epoch):
    options = dict(by_epoch=by_epoch, sampler='EpochSampler' if by_epoch else 'EndlessSampler')
    whole = Watch()
    expected = finish(run(tmp_path / 'whole', whole, probe_config(), **options), whole)
    with suppress(Killed):
        run(tmp_path / 'cut', Watch(kill_after=7), probe_config(), **options).train()
    watch = Watch()
    losses, state = finish(run(tmp_path / 'cut', watch, probe_config(), resume=True, **options), watch)
    assert losses == expected[0][6:]
    assert_equal(state, expected[1])
    assert_equal(saved(tmp_path / 'cut'), saved(tmp_path / 'whole'))
    assert saved(tmp_path / 'cut')['online_probe']['step'] == 12


def test_where_states_are_loaded(student, tmp_path):
    """In a test, whether after the training or of a file, and not in a new training by load_from."""
    watch = Watch()
    more = dict(test_dataloader={}, test_evaluator={})
    more |= dict(test_cfg=dict(type='EvaluatorLoop', evaluators=[probe_config()], phase='test'))
    runner = run(tmp_path / 'first', watch, probe_config(), **more)
    runner.train()
    last = runner.message_hub.get_scalar('val/online_probe/cross_entropy').current()
    assert runner.test()['online_probe/cross_entropy'] == last
    load = dict(load_from=str(tmp_path / 'first/iter_12.pth'))
    assert run(tmp_path / 'test', watch, **more, **load).test()['online_probe/cross_entropy'] == last
    run(tmp_path / 'second', watch, probe_config(), **load).train()
    assert saved(tmp_path / 'second', 'iter_2.pth')['online_probe']['step'] == 2
    # a checkpoint without the probe has nothing to report, and a run with a new one begins it
    run(tmp_path / 'bare', watch).train()
    load = dict(load_from=str(tmp_path / 'bare/iter_6.pth'))
    assert run(tmp_path / 'test', watch, **more, **load).test() == {}
    resumed = run(tmp_path / 'later', watch, probe_config(), resume=True, **load)
    resumed.train()
    assert saved(tmp_path / 'later')['online_probe']['step'] == 6
    other = run(tmp_path / 'other', watch, probe_config(pooling='cls'), resume=True)
    other._load_from = str(tmp_path / 'first/iter_6.pth')
    with pytest.raises(ValueError, match="online_probe: the checkpoint has a probe of .*'both'.*'cls'"):
        other.train()


def loader(size=10, classes=3, batch=4):
    return DataLoader(Clusters(size, classes), batch)


def trained(probe, steps=5):
    torch.manual_seed(0)
    model = Student().eval()
    for iteration in range(1, steps + 1):
        probe.after_train_iter(model, iteration)
    return model


def test_steps_and_figures_are_written_out():
    """The optimiser's steps on the images of (seed, step), and the figures on all images."""
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9)
    probe = OnlineProbe(loader(11, 6), loader(10, 6), optimizer=optimizer)
    model = trained(probe)
    classifier = nn.Linear(16, 6)
    nn.init.zeros_(classifier.weight), nn.init.zeros_(classifier.bias)
    steps = torch.optim.SGD(classifier.parameters(), 0.1, 0.9)

    def features(samples):
        cls, patches = model.encode_image(torch.stack([sample['inputs'] for sample in samples]))
        return torch.cat([cls, patches.mean(1)], 1).detach(), torch.stack([s['gt_label'] for s in samples])

    indices = iter(_steps(10, 4, 0, 0))
    for _ in range(5):
        inputs, labels = features([Clusters(10, 6)[index] for index in next(indices)])
        steps.zero_grad()
        F.cross_entropy(classifier(inputs), labels).backward()
        steps.step()
    assert_equal(probe.state_dict()['classifier'], classifier.state_dict())
    with torch.no_grad():
        found = probe.evaluate(model)
        draws = [Clusters(11, 6)[SampleIndex(index, 0, 0)] for index in range(11)]
        inputs, labels = features(draws)
        scores = classifier(inputs)
    ranked = scores.argsort(1, descending=True)
    assert found['top1'] == pytest.approx(100 * (ranked[:, 0] == labels).double().mean().item())
    among5 = (ranked[:, :5] == labels[:, None]).any(1).double()
    assert found['top5'] == pytest.approx(100 * among5.mean().item())
    assert found['cross_entropy'] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-6)


def test_it_learns():
    rates = dict(type='AdamW', lr=0.1), dict(type='AdamW', lr=0.0)
    probes = [OnlineProbe(loader(30), loader(30, batch=15), optimizer=optimizer) for optimizer in rates]
    with torch.no_grad():
        found, nothing = (one.evaluate(trained(one, 30)) for one in probes)
    assert found['top1'] > 90 and 'top5' not in found
    assert found['cross_entropy'] < 0.5 < 1 < nothing['cross_entropy']


@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_pooling(pooling):
    probe = OnlineProbe(loader(), loader(), pooling=pooling)
    trained(probe, 1)
    assert probe.state_dict()['classifier']['weight'].shape == (3, 8)


def test_images_of_a_step_follow_from_seed_and_step(monkeypatch):
    def taken(steps, number):
        rows = iter(steps)
        return [[(int(index), index.epoch, index.seed) for index in next(rows)] for _ in range(number)]

    every = taken(_steps(10, 4, 5, 0), 6)
    assert taken(_steps(10, 4, 5, 2), 4) == every[2:]
    flat = [index for row in every for index in row]
    assert sorted(index for index, epoch, _ in flat if epoch == 0) == list(range(10))
    assert {seed for *_, seed in flat} == {5} and every != taken(_steps(10, 4, 6, 0), 6)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(online_probe, 'get_dist_info', lambda rank=rank: (rank, 3))
        parts.append(taken(_steps(10, 4, 5, 0), 6))
    assert [sorted(a + b + c) for a, b, c in zip(*parts, strict=True)] == [sorted(row) for row in every]


def of_a_process():
    torch.distributed.init_process_group('gloo')
    return weights_and_figures()


def weights_and_figures():
    probe = OnlineProbe(loader(11, 6), loader(10, 6, batch=5))  # neither divides
    model = trained(probe)
    with torch.no_grad():
        figures = probe.evaluate(model)
    return [value.tolist() for value in probe.state_dict()['classifier'].values()], figures


def test_two_processes_make_the_steps_of_one():
    weights, figures = weights_and_figures()
    first, second = forked(of_a_process)
    assert first == second
    for found, expected in zip(first[0], weights, strict=True):
        assert torch.allclose(torch.tensor(found), torch.tensor(expected), atol=1e-6)
    assert first[1] == pytest.approx(figures, rel=1e-5)


def job(folder):
    """A run of two processes, whole and resumed: whether probe and student are the same at the end."""
    exact_runs.Model = Student
    more = dict(launcher='pytorch', size=48)
    whole = Watch()
    losses, _ = finish(run(folder / 'whole', whole, probe_config(), **more), whole)
    with suppress(Killed):
        run(folder / 'cut', Watch(kill_after=7), probe_config(), **more).train()
    watch = Watch()
    rest, _ = finish(run(folder / 'cut', watch, probe_config(), resume=True, **more), watch)
    assert rest == losses[6:]
    assert_equal(saved(folder / 'cut'), saved(folder / 'whole'))


def test_two_processes_resume(tmp_path):
    assert forked(job, tmp_path) == [None, None]


def test_what_is_refused(monkeypatch):
    for options, message in (
        (dict(pooling='max'), "pooling='max' is none of 'both', 'cls', 'mean'"),
        (dict(train_interval=0), 'train_interval=0: expected 1 or more'),
        (dict(num_classes=4), r'num_classes=4, and the datasets of its loaders have \[3\] classes'),
        (dict(train_dataloader=loader(10, 5)), r'have \[3, 5\] classes'),
    ):
        with pytest.raises(ValueError, match=message):
            OnlineProbe(**{'dataloader': loader(), 'train_dataloader': loader(), **options})
    plain = DataLoader([0] * 4, 2)
    with pytest.raises(ValueError, match='num_classes=None, .* have unknown classes'):
        OnlineProbe(plain, plain)
    assert OnlineProbe(plain, plain, num_classes=7).num_classes == 7
    model = Student().eval()
    model.encode_image = lambda images: (None, torch.ones(len(images), 2, 8))
    with pytest.raises(ValueError, match="the student has no CLS token: use pooling='mean'"):
        OnlineProbe(loader(), loader()).after_train_iter(model, 1)
    OnlineProbe(loader(), loader(), pooling='mean').after_train_iter(model, 1)
    with pytest.raises(ValueError, match='Linear has no student: expected encode_image'):
        OnlineProbe(loader(), loader()).require(nn.Linear(1, 1))
    monkeypatch.setattr(online_probe, 'get_dist_info', lambda: (0, 5))
    with pytest.raises(ValueError, match='batch_size=4 is less than an image a process'):
        OnlineProbe(loader(), loader()).after_train_iter(model, 1)


@pytest.mark.slow
def test_in_a_pretraining(image_folder, tmp_path):
    """Logged as any validation, and by a test of the checkpoint."""
    options = {
        'train_dataloader.dataset.data_root': str(image_folder),
        'train_dataloader.batch_size': 4,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_cfg.max_epochs': 2,
        'test_dataloader.dataset.data_root': str(image_folder),
        'test_dataloader.num_workers': 0,
        'test_dataloader.persistent_workers': False,
        'default_hooks.checkpoint.interval': 1,
        'evaluators.0.dataloader.dataset.data_root': str(image_folder),
        'evaluators.0.dataloader.num_workers': 0,
        'evaluators.0.dataloader.persistent_workers': False,
    }
    own = tmp_path / 'watched.py'
    own.write_text(f'_base_ = {str(ROOT / "configs/mvp/vittiny_debug.py")!r}\n' + WATCHED)
    cfg = load_config(str(own), str(tmp_path / 'run'), cfg_options=options)
    runner = build_runner(cfg)
    runner.train()
    text = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text().splitlines()
    first, last = (line for line in map(json.loads, text) if 'online_probe/top1' in line)
    assert first.keys() >= {'alignment/masked_excess', 'alignment/patch_rank', 'online_probe/top5'}
    assert first['alignment/attention_distance_3'] > 0
    checkpoint = torch.load(tmp_path / 'run/epoch_2.pth', weights_only=True)
    assert checkpoint['evaluators']['online_probe']['step'] == 2
    cfg = load_config(str(own), str(tmp_path / 'test'), cfg_options=options)
    cfg.load_from = str(tmp_path / 'run/epoch_2.pth')
    tested = build_runner(cfg).test()
    for name in ('alignment/cls_excess', 'online_probe/cross_entropy'):
        assert tested[name] == pytest.approx(last[name], abs=1e-6)


WATCHED = """
test_evaluator = None
train_cfg = dict(val_interval=1)
pack = [dict(type='PackMaskedInputs', fields=('gt_label',))]
probed = dict(
    batch_size=6,
    num_workers=0,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='SceneImages', label='shape', count=10, pipeline=pack),
)
evaluators = [
    dict(type='Alignment', dataloader=_base_.test_dataloader),
    dict(type='OnlineProbe', dataloader=probed, train_dataloader=probed, train_interval=2),
]
"""
