import logging
from types import SimpleNamespace

from mvp_mm.engine import LearntPromptsHook
from mvp_mm.models import CoOp, TextEncoder
from mvp_mm.models.prompts import load_prompts
from mvp_mm.models.speaking.text_tower import TextTower
from mvp_mm.text.tokenize import WordTokenizer

from ...test_models.test_prompts.conftest import CONTEXT, WORDS, small_clip


def test_prompts_are_saved_and_logged_in_words(tmp_path, caplog):
    tower = TextTower(TextEncoder(small_clip()), WordTokenizer(WORDS, CONTEXT), 20.0, 'abc', 'small')
    learner = CoOp(tower, init='photo of', closing='')
    runner = SimpleNamespace(
        model=SimpleNamespace(prompts=learner), work_dir=str(tmp_path), logger=logging.getLogger('prompts')
    )
    with caplog.at_level(logging.INFO, 'prompts'):
        LearntPromptsHook().after_train(runner)
    written, words = caplog.messages
    assert written.startswith(f'Learnt prompts written to {tmp_path}/prompts.safetensors (0.')
    assert words.startswith('Nearest words and their distances: photo 0.00 / ') and '; of 0.00 / ' in words
    saved = load_prompts(tmp_path / 'prompts.safetensors')
    assert [row[0][0] for row in saved.words] == ['photo', 'of']
    assert saved.learner(tower).context.equal(learner.context)
