"""Learn prompts on the base classes of the embedded scenes and test them on base and new ones.

Three seeds, with the embedded CLIP and with the embedded student, beside hand-written prompts. Both encoders
are frozen, so images are embedded once (ten augmented views of the few shots); everything else is as
configs/prompts/*_scenes.py say. Writes every figure as JSON and a table. What is done is never done again.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import mean, stdev

import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmpretrain.registry import MODELS

import mvp_mm.engine as engine
from mvp_mm.datasets.scenes import COLOURS, SHAPES
from mvp_mm.evaluation import BaseToNew
from mvp_mm.models import PromptClassifier
from mvp_mm.models.prompts import load_prompts
from mvp_mm.models.speaking.class_embeddings import ClassEmbeddings
from mvp_mm.models.speaking.speech import Speech

from .cached_features import CachedFeatures, embed

CONFIGS = Path(__file__).parents[2] / 'configs'
VIEWS = 10  # of each image: CoCoOp's epochs, so that it sees none twice
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


def config_of(method: str, speaker: str, options: dict) -> Config:
    """Load a config of configs/prompts, with the teacher or the student as its model."""
    name, prompts = METHODS[method]
    cfg = engine.load_config(str(CONFIGS / 'prompts' / f'{name}.py'), cfg_options=options)
    cfg.model.prompts.update(prompts)
    if speaker == 'student':
        mvp = engine.load_config(str(CONFIGS / 'mvp' / 'vittiny_scenes.py'))
        told = Speech.of_config(mvp.model)
        checkpoint = str(CONFIGS / 'mvp' / 'vittiny_scenes.safetensors')
        cfg.model.speaker = dict(type='SpeakingStudent', checkpoint=checkpoint, speech=told.plain())
    return cfg


def features(cfg: Config, split: str, speaker: str, seed: int, out: Path) -> dict:
    """Embed the few shots of a seed, or the test scenes, once for each speaker."""
    path = out / 'features' / f'{speaker}-{split}{seed if split == "train" else ""}.pt'
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        model = MODELS.build(cfg.model)
        training = split == 'train'
        dataset = cfg[f'{split}_dataloader'].dataset
        torch.save(embed(model, dataset, VIEWS if training else 1, seed), path)
    return torch.load(path)


def learn(method: str, speaker: str, seed: int, out: Path, options: dict) -> dict:
    """Train one learner by its config on cached embeddings; return the figures of the last step."""
    given = {'randomness.seed': seed, 'train_dataloader.dataset.seed': seed, **options}
    cfg = config_of(method, speaker, given)
    for split in ('train', 'test'):
        loader = cfg[f'{split}_dataloader']
        found = features(cfg, split, speaker, seed, out)
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset = dict(type='CachedFeatures', **found)
    cfg.model.data_preprocessor = dict(type='BaseDataPreprocessor')  # embeddings are not normalised again
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.work_dir = str(out / 'work' / f'{speaker}-{method}-s{seed}')
    runner = engine.build_runner(cfg)
    runner.train()
    figures = {name.split('/')[1]: value for name, value in runner.test().items() if 'base_to_new' in name}
    return dict(figures, words=load_prompts(Path(cfg.work_dir) / 'prompts.safetensors').words)


def hand_written(speaker: str, out: Path, options: dict) -> dict:
    """Judge sentences such as `a red circle` and `an orange star` on the same embeddings."""
    cfg = config_of('coop', speaker, options)
    test = CachedFeatures(**features(cfg, 'test', speaker, 0, out))
    model: PromptClassifier = MODELS.build(cfg.model)
    sentences = [f'{"an" if c == "orange" else "a"} {c} {shape}' for shape in SHAPES for c in COLOURS]
    vectors = model.text_tower.embed(sentences)
    embeddings = ClassEmbeddings.of(vectors, [[sentence] for sentence in sentences])
    batch = default_collate([test[index] for index in range(len(test))])
    scores = model.logits(model(batch['inputs']), embeddings)
    metric = BaseToNew()
    metric.process(
        None, [dict(pred_score=row, gt_label=label) for row, label in zip(scores, test.labels, strict=True)]
    )
    return metric.compute_metrics(metric.results)


def table(out: Path) -> str:
    """A Markdown table: mean and sample standard deviation over the seeds that are done."""
    lines = ['| model | prompts | base | new | H | runs |', '|---' * 6 + '|']
    for speaker in SPEAKERS:
        for method, label in LABELS.items():
            paths = [path for end in ('', '-s?') for path in out.glob(f'{speaker}-{method}{end}.json')]
            found = [json.loads(path.read_text()) for path in paths]
            if found:
                cells = [_cell([one[key] for one in found]) for key in ('base', 'new', 'H')]
                lines.append(f'| {speaker} | {label} | {" | ".join(cells)} | {len(found)} |')
    return '\n'.join(lines)


def _cell(values: list[float]) -> str:
    text = f'{mean(values):.1f}'
    return text if len(values) == 1 else f'{text} ± {stdev(values):.1f}'


def run(out: Path, seeds: tuple[int, ...], methods: list[str], options: dict) -> str:
    """Do what is not done yet; return the table, which is also written."""
    out.mkdir(parents=True, exist_ok=True)
    jobs = [(speaker, 'hand', 0) for speaker in SPEAKERS]
    jobs += [(speaker, method, seed) for method in methods for seed in seeds for speaker in SPEAKERS]
    for speaker, method, seed in jobs:
        path = out / (f'{speaker}-hand.json' if method == 'hand' else f'{speaker}-{method}-s{seed}.json')
        if path.exists():
            continue
        start = time.process_time()
        if method == 'hand':
            figures = hand_written(speaker, out, options)
        else:
            figures = learn(method, speaker, seed, out, options)
        figures['cpu_seconds'] = round(time.process_time() - start, 1)
        temporary = path.with_suffix('.part')
        temporary.write_text(json.dumps(figures) + '\n')
        temporary.rename(path)
    text = table(out)
    (out / 'table.md').write_text(text + '\n')
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/prompts_scenes'))
    parser.add_argument('--seeds', type=int, nargs='+', default=SEEDS)
    parser.add_argument('--methods', nargs='+', choices=list(METHODS), default=list(METHODS))
    args = parser.parse_args()
    torch.set_num_threads(1)  # the text tower is too small for more
    print(run(args.out, tuple(args.seeds), args.methods, {}))


if __name__ == '__main__':
    engine.run_command_line(main)
