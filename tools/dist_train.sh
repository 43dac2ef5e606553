#!/usr/bin/env bash
# tools/train.py on several GPUs (or, without any, CPU processes), on one machine or on many.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run_distributed.sh"
mvp_run_distributed train.py CONFIG -- "$@"
