import re
import sys
from pathlib import Path

from torchrun_jobs import free_port, run

from mvp_mm.engine.distributed.collectives import DelayedAllReduce, all_gather, all_reduce


def test_one_process_knows_at_once():
    agreement = DelayedAllReduce('max')
    assert [agreement.exchange(number) for number in (0, 3)] == [0, 3]
    assert agreement.settle() == 0
    assert all_reduce(5, 'min') == 5 and all_gather('a') == ['a']


def test_two_processes_know_a_step_later_and_do_not_wait():
    script = Path(__file__).with_name('collectives_run.py')
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node=2']
    status, output, _ = run([*command, f'--master-port={free_port()}', script])
    assert status == 0, output

    def told(word):
        return [re.findall(rf'{word} rank={rank} (.*)', output) for rank in (0, 1)]

    assert told('GROUPS') == [['default=True own=True']] * 2
    assert told('NOW') == [["3 4 ['a', 'b']"]] * 2
    assert told('LATE') == [['[0, 0, 5, 5, 7] 7 0']] * 2
    assert told('WAITED') == [['False 1']] * 2
