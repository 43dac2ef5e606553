#!/usr/bin/env bash
# tools/train.py on several GPUs (or, without any, CPU processes), on one machine or on many.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bash tools/dist_train.sh CONFIG GPUS [ARGUMENT ...]

  GPUS       processes on this machine, one a GPU
  ARGUMENT   goes to tools/train.py

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
if (($# < 2)); then
    printf 'dist_train.sh: CONFIG GPUS are needed, got %d arguments\n\n' $# >&2
    usage >&2
    exit 2
fi
config="$1"
gpus="$2"
shift 2
if [[ ! -f "$config" ]]; then
    printf 'dist_train.sh: no such file: %s\n' "$config" >&2
    exit 2
fi
if [[ ! "$gpus" =~ ^[1-9][0-9]*$ ]]; then
    printf 'dist_train.sh: GPUS must be a positive whole number, got %s\n' "$gpus" >&2
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
    "$root/tools/train.py" "$config" --launcher pytorch "$@"
