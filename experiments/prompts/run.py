"""Learn prompts on the base classes of the embedded scenes and test them on base and new ones.

Several seeds, with the embedded CLIP and with the embedded student, beside hand-written prompts, by the
recipe of configs/prompts/*_scenes.py. Both encoders are frozen and the configs do not augment, so images are
embedded once; and all learners of a method, which have one text tower, learn side by side. Writes every
figure as JSON and a table. What is done is never done again.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import OPTIMIZERS, PARAM_SCHEDULERS, init_default_scope
from mmpretrain.registry import DATASETS, MODELS
from torch import Tensor
from torch.nn import functional as F

import mvp_mm.engine as engine
from mvp_mm.datasets.samplers.epoch_sampler import epoch_order
from mvp_mm.datasets.scenes import COLOURS, SHAPES
from mvp_mm.evaluation import BaseToNew
from mvp_mm.models import PromptClassifier
from mvp_mm.models.prompts import save_prompts
from mvp_mm.models.speaking.class_embeddings import ClassEmbeddings
from mvp_mm.models.speaking.speech import Speech

from ..tables import mean_and_spread

CONFIGS = Path(__file__).parents[2] / 'configs'
BATCH = 250  # images embedded at a time
SEEDS = (1, 2, 3)
SPEAKERS = ('teacher', 'student')
METHODS = {
    'coop': ('coop_scenes', {}),
    'cocoop': ('cocoop_scenes', {}),
    'coop-16': ('coop_scenes', dict(init=None, num_context=16)),
}
LABELS = {
    'hand': 'hand-written, `a red circle`',
    'coop': 'CoOp, 1 vector, from `a`',
    'coop-16': 'CoOp, 16 vectors, normal(0, 0.02)',
    'cocoop': 'CoCoOp, 1 vector, from `a`',
}


def config_of(method: str, speaker: str, seed: int, options: dict) -> Config:
    """Load a config of configs/prompts, with the teacher or the student as its model."""
    name, prompts = METHODS[method]
    options = {'train_dataloader.dataset.seed': seed, **options}
    cfg = engine.load_config(str(CONFIGS / 'prompts' / f'{name}.py'), cfg_options=options)
    cfg.model.prompts.update(prompts)
    if speaker == 'student':
        mvp = engine.load_config(str(CONFIGS / 'mvp' / 'vittiny_scenes.py'))
        checkpoint, told = str(CONFIGS / 'mvp' / 'vittiny_scenes.safetensors'), Speech.of_config(mvp.model)
        cfg.model.speaker = dict(type='SpeakingStudent', checkpoint=checkpoint, speech=told.plain())
    return cfg


@torch.no_grad()
def embedded(model: PromptClassifier, dataset: dict, path: Path) -> tuple[Tensor, Tensor]:
    """Embed a dataset's images, ``(N, D)``, with labels ``(N,)``; read them from ``path`` if it exists."""
    if not path.exists():
        images = DATASETS.build(dataset)
        parts, labels = [], []
        for start in range(0, len(images), BATCH):
            batch = default_collate([images[i] for i in range(start, min(start + BATCH, len(images)))])
            parts.append(model(model.data_preprocessor(batch)['inputs']))
            labels += [sample.gt_label for sample in batch['data_samples']]
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save((torch.cat(parts), torch.cat(labels)), path)
    return torch.load(path)


def learn_together(
    models: Sequence[PromptClassifier],
    data: Sequence[tuple[Tensor, Tensor]],
    cfg: Config,
    seeds: Sequence[int],
) -> None:
    """Train classifiers of one method, each on its own embeddings and in its own order, by a config's recipe.

    Their losses are summed and SGD works element by element, so each learns as if alone; the prompts of all
    pass the text tower in one batch.
    """
    learners = [model.prompts for model in models]
    parameters = [value for learner in learners for value in learner.parameters()]
    optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer, params=parameters))
    schedulers = [PARAM_SCHEDULERS.build(dict(one, optimizer=optimizer)) for one in cfg.param_scheduler]
    trained, batch = models[0].trained, cfg.train_dataloader.batch_size
    names = tuple(name for number in trained for name in models[0].names[number])
    for epoch in range(cfg.train_cfg.max_epochs):
        orders = [
            torch.tensor(epoch_order(len(data[i][1]), True, seed, epoch)) for i, seed in enumerate(seeds)
        ]
        for start in range(0, min(map(len, orders)) // batch * batch, batch):
            chosen = [order[start : start + batch] for order in orders]
            features = torch.stack([data[i][0][rows] for i, rows in enumerate(chosen)])
            labels = torch.stack([data[i][1][rows] for i, rows in enumerate(chosen)]) - trained.start
            # One prompt a class and learner: CoCoOp's batch is one image.
            contexts = [
                one.contexts(own).expand(1, 1, -1, -1) for one, own in zip(learners, features, strict=True)
            ]
            vectors = learners[0].embed(torch.cat(contexts), names)
            logits = models[0].text_tower.logit_scale * features @ vectors.transpose(1, 2)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction='sum') / batch
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@torch.no_grad()
def judged(
    model: PromptClassifier, data: tuple[Tensor, Tensor], embeddings: ClassEmbeddings | None = None
) -> dict:
    """Return the figures of a model's prompts, or of other embeddings, on embedded images."""
    metric = BaseToNew()
    for features, labels in zip(data[0].split(BATCH), data[1].split(BATCH), strict=True):
        if embeddings is None:
            scores = [sample.pred_score for sample in model.eval().predict(features)]
        else:
            scores = list(model.logits(model(features), embeddings))
        samples = [dict(pred_score=row, gt_label=label) for row, label in zip(scores, labels, strict=True)]
        metric.process(None, samples)
    return metric.compute_metrics(metric.results)


def run(out: Path, seeds: Sequence[int], methods: Sequence[str], options: dict) -> str:
    """Do what is not done yet; return the table, which is also written."""
    init_default_scope('mmpretrain')
    for speaker in SPEAKERS:
        if not (path := out / f'{speaker}-hand.json').exists():
            cfg = config_of('coop', speaker, 0, options)
            model = MODELS.build(cfg.model)
            sentences = [f'{"an" if c == "orange" else "a"} {c} {shape}' for shape in SHAPES for c in COLOURS]
            vectors = ClassEmbeddings.of(model.text_tower.embed(sentences), [[text] for text in sentences])
            keep(judged(model, test_data(cfg, model, speaker, out), vectors), path)
    for method in methods:
        jobs = [(speaker, seed) for speaker in SPEAKERS for seed in seeds]
        jobs = [job for job in jobs if not (out / f'{job[0]}-{method}-s{job[1]}.json').exists()]
        if not jobs:
            continue
        start, models, data, cfgs = time.process_time(), [], [], []
        for speaker, seed in jobs:
            torch.manual_seed(seed)
            cfgs.append(config_of(method, speaker, seed, options))
            models.append(MODELS.build(cfgs[-1].model))
            path = out / 'features' / f'{speaker}-train{seed}.pt'
            data.append(embedded(models[-1], cfgs[-1].train_dataloader.dataset, path))
        learn_together(models, data, cfgs[0], [seed for _, seed in jobs])
        seconds = (time.process_time() - start) / len(jobs)
        for (speaker, seed), model, cfg in zip(jobs, models, cfgs, strict=True):
            name = f'{speaker}-{method}-s{seed}'
            words = save_prompts(model.prompts, out / 'features' / f'{name}.safetensors')
            figures = judged(model, test_data(cfg, model, speaker, out))
            keep(dict(figures, words=words, cpu_seconds=round(seconds, 1)), out / f'{name}.json')
    text = table(out)
    (out / 'table.md').write_text(text + '\n')
    return text


def test_data(cfg: Config, model: PromptClassifier, speaker: str, out: Path) -> tuple[Tensor, Tensor]:
    """Embed the test scenes once for each speaker."""
    return embedded(model, cfg.test_dataloader.dataset, out / 'features' / f'{speaker}-test.pt')


def keep(figures: dict, path: Path) -> None:
    """Write figures as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix('.part')
    temporary.write_text(json.dumps(figures) + '\n')
    temporary.rename(path)


def table(out: Path) -> str:
    """A Markdown table: mean and sample standard deviation over the seeds that are done."""
    lines = ['| model | prompts | base | new | H | runs |', '|---' * 6 + '|']
    for speaker in SPEAKERS:
        for method, label in LABELS.items():
            paths = [path for end in ('', '-s*') for path in out.glob(f'{speaker}-{method}{end}.json')]
            found = [json.loads(path.read_text()) for path in paths]
            if found:
                cells = [mean_and_spread([one[key] for one in found]) for key in ('base', 'new', 'H')]
                lines.append(f'| {speaker} | {label} | {" | ".join(cells)} | {len(found)} |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/prompts_scenes'))
    parser.add_argument('--seeds', type=int, nargs='+', default=SEEDS)
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    args = parser.parse_args()
    torch.set_num_threads(1)  # the text tower is too small for more
    print(run(args.out, args.seeds, args.methods, {}))


if __name__ == '__main__':
    engine.run_command_line(main)
