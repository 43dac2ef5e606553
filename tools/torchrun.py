"""torchrun, which ends with its summary of what failed instead of a traceback of its own."""

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

if __name__ == '__main__':
    try:
        main()
    except ChildFailedError as error:
        sys.exit(f'\n{error}')
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
