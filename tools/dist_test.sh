#!/usr/bin/env bash
# tools/test.py on several GPUs (or, without any, CPU processes), on one machine or on many.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [ARGUMENT ...]

  GPUS       processes on this machine, one a GPU
  ARGUMENT   goes to tools/test.py

Environment, for more than one machine (run it on each):
  NNODES       number of machines             (default 1)
  NODE_RANK    this machine, from 0           (default 0)
  MASTER_ADDR  address of machine 0           (default 127.0.0.1)
  PORT         a free port there; another one for each job on a machine (default 29500)
TEXT
}

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    usage
    exit
fi
if (($# < 3)); then
    printf 'dist_test.sh: CONFIG CHECKPOINT GPUS are needed, got %d arguments\n\n' $# >&2
    usage >&2
    exit 2
fi
config="$1"
checkpoint="$2"
gpus="$3"
shift 3
for file in "$config" "$checkpoint"; do
    if [[ ! -f "$file" ]]; then
        printf 'dist_test.sh: no such file: %s\n' "$file" >&2
        exit 2
    fi
done
if [[ ! "$gpus" =~ ^[1-9][0-9]*$ ]]; then
    printf 'dist_test.sh: GPUS must be a positive whole number, got %s\n' "$gpus" >&2
    exit 2
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/tools/setup_env.sh"
mvp_use_env
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# torchrun would set one thread a process, which starves a run on CPUs.
if [[ -z "${OMP_NUM_THREADS:-}" ]]; then
    cores="$(getconf _NPROCESSORS_ONLN)"
    export OMP_NUM_THREADS=$((cores / gpus > 1 ? cores / gpus : 1))
fi

exec python -m torch.distributed.run \
    --nnodes "${NNODES:-1}" \
    --node_rank "${NODE_RANK:-0}" \
    --nproc_per_node "$gpus" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" \
    --master_port "${PORT:-29500}" \
    "$root/tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
