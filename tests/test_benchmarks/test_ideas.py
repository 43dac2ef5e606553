"""The single ideas: what is timed side by side computes the same."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import ideas
from benchmarks.ideas import IDEAS, Setting
from benchmarks.ideas_report import benchmark_ideas
from mvp_mm.hardware import fast_precision

CPU = torch.device('cpu')
TOOL = Path(__file__).parents[2] / 'tools/analysis_tools/benchmark_ideas.py'


@pytest.fixture
def small(monkeypatch):
    for name, value in dict(WIDTH=24, HEADS=3, LAYERS=1, SIDE=64).items():
        monkeypatch.setattr(ideas, name, value)


@pytest.mark.parametrize('idea', sorted(set(IDEAS) - {'AdamW', 'QuickGELU'}))
def test_variants_give_the_same(idea, small):
    results = [run() for run in IDEAS[idea](Setting(CPU, torch.float32, 2)).values()]
    assert len(results) > 1 and results[0] is not None
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


def test_the_report(small):
    text = benchmark_ideas(CPU, 2, torch.bfloat16, 2)
    for idea in IDEAS:
        assert text.count(f'| {idea} | ') > 1, idea


def test_the_tool(small, monkeypatch, tmp_path):
    out = tmp_path / 'ideas.md'
    options = ['--device', 'cpu', '--batch', '2', '--rounds', '1', '--out', str(out)]
    monkeypatch.setattr(sys, 'argv', ['benchmark_ideas.py', *options])
    runpy.run_path(str(TOOL), run_name='__main__')  # the fixture of all tests sees that logging goes on
    precision = fast_precision('cpu')
    assert out.read_text().startswith(f'## Single ideas at the sizes of ViT-B/16, {precision}, batch 2, cpu')
