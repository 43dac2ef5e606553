#!/usr/bin/env bash
# tools/train.py as a Slurm job, one task a GPU.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: [GPUS=8] bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [ARGUMENT ...]

  ARGUMENT   goes to tools/train.py

Environment:
  GPUS           GPUs in total              (default 8)
  GPUS_PER_NODE  GPUs on each machine       (default 8, or GPUS if that is fewer)
  CPUS_PER_TASK  CPU cores for each GPU     (default 5)
  SRUN_ARGS      more options for srun, separated by spaces, e.g. "--time 24:00:00 --qos high"
TEXT
}

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    usage
    exit
fi
if (($# < 4)); then
    printf 'slurm_train.sh: PARTITION JOB_NAME CONFIG WORK_DIR are needed, got %d arguments\n\n' $# >&2
    usage >&2
    exit 2
fi
partition="$1"
job_name="$2"
config="$3"
work_dir="$4"
shift 4
if [[ ! -f "$config" ]]; then
    printf 'slurm_train.sh: no such file: %s\n' "$config" >&2
    exit 2
fi
gpus="${GPUS:-8}"
gpus_per_node="${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}"
for count in "$gpus" "$gpus_per_node" "${CPUS_PER_TASK:-5}"; do
    if [[ ! "$count" =~ ^[1-9][0-9]*$ ]]; then
        printf 'slurm_train.sh: GPUS, GPUS_PER_NODE and CPUS_PER_TASK must be positive whole numbers, got %s\n' "$count" >&2
        exit 2
    fi
done
if ((gpus % gpus_per_node)); then
    # srun would leave some machines with fewer tasks than the GPUs asked for there.
    printf 'slurm_train.sh: GPUS=%d is not a multiple of GPUS_PER_NODE=%d\n' "$gpus" "$gpus_per_node" >&2
    exit 2
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/tools/setup_env.sh"
mvp_use_env
if ! command -v srun >/dev/null; then
    mvp_fail 'there is no srun on PATH.' \
        'Run this on a machine of a Slurm cluster; elsewhere use tools/dist_train.sh.'
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
read -r -a srun_args <<<"${SRUN_ARGS:-}"

exec srun \
    --partition "$partition" \
    --job-name "$job_name" \
    --gres "gpu:$gpus_per_node" \
    --ntasks "$gpus" \
    --ntasks-per-node "$gpus_per_node" \
    --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${srun_args[@]+"${srun_args[@]}"} \
    python -u "$root/tools/train.py" "$config" --work-dir "$work_dir" --launcher slurm "$@"
