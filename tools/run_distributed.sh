#!/usr/bin/env bash
# Runs a tool by torchrun. dist_train.sh and dist_test.sh source it:
#
#     source tools/run_distributed.sh
#     mvp_run_distributed TOOL.py FILE_ARGUMENT_NAME ... -- "$@"
#
# where "$@" is: a file for each FILE_ARGUMENT_NAME, the number of GPUs, arguments of the tool.

mvp_run_distributed() {
    local tool="$1" name files=() file_names=()
    shift
    while [[ "$1" != -- ]]; do
        file_names+=("$1")
        shift
    done
    shift
    name="dist_${tool%.py}.sh"
    if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
        mvp_distributed_usage "$name" "$tool" "${file_names[*]}"
        exit
    fi
    if (($# < ${#file_names[@]} + 1)); then
        printf '%s: %s GPUS are needed, got %d arguments\n\n' "$name" "${file_names[*]}" $# >&2
        mvp_distributed_usage "$name" "$tool" "${file_names[*]}" >&2
        exit 2
    fi
    files=("${@:1:${#file_names[@]}}")
    shift "${#file_names[@]}"
    local file
    for file in "${files[@]}"; do
        # A checkpoint may also be an address, or a model's name, which has neither a dot nor a slash.
        if [[ "$file" == "${files[0]}" && ! -f "$file" ]] ||
            [[ "$file" == *[./]* && "$file" != *://* && ! -e "$file" ]]; then
            printf '%s: no such file: %s\n' "$name" "$file" >&2
            exit 2
        fi
    done
    local gpus="$1"
    shift
    if [[ ! "$gpus" =~ ^[1-9][0-9]*$ ]]; then
        printf '%s: GPUS must be a positive whole number, got %s\n' "$name" "$gpus" >&2
        exit 2
    fi

    local restarts="${MAX_RESTARTS:-0}"
    if [[ ! "$restarts" =~ ^(0|[1-9][0-9]*)$ ]]; then
        printf '%s: MAX_RESTARTS must be a whole number, got %s\n' "$name" "$restarts" >&2
        exit 2
    fi
    if ((restarts)) && [[ "$tool" == train.py && " $* " != *' --resume'[\ =]* ]]; then
        # The second attempt would begin anew and overwrite what the first one has saved.
        printf '%s: MAX_RESTARTS=%d needs --resume, with which a restarted run goes on\n' "$name" "$restarts" >&2
        exit 2
    fi

    local port="${PORT:-29500}" nodes="${NNODES:-1}" node="${NODE_RANK:-0}"
    if [[ ! "$nodes" =~ ^[1-9][0-9]*$ || ! "$node" =~ ^(0|[1-9][0-9]*)$ ]] || ((node >= nodes)); then
        printf '%s: NNODES counts machines from 1, and NODE_RANK numbers them from 0 to NNODES-1; got NNODES=%s NODE_RANK=%s\n' \
            "$name" "$nodes" "$node" >&2
        exit 2
    fi
    if [[ ! "$port" =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
        printf '%s: PORT must be a number from 1 to 65535, got %s\n' "$name" "$port" >&2
        exit 2
    fi

    local root cores
    root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
    source "$root/tools/setup_env.sh"
    mvp_use_env
    export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
    # torchrun would set one thread a process, which starves a run on CPUs.
    if [[ -z "${OMP_NUM_THREADS:-}" ]]; then
        cores="$(python "$root/tools/check_env.py" cores)"
        export OMP_NUM_THREADS=$((cores / gpus > 1 ? cores / gpus : 1))
    fi

    # The first machine listens there; torchrun would end in a page of traceback.
    local why other
    if ((node == 0)) && ! why="$(mvp_try_port "$port")"; then
        other="$(mvp_try_port 0)"
        if [[ -n "${PORT:-}" ]] || ((nodes > 1)); then
            printf '%s: port %s of this machine cannot be used (%s), by another job perhaps: give a free one, such as PORT=%s%s\n' \
                "$name" "$port" "$why" "$other" "$( ((nodes == 1)) || printf ', on every machine of the job')" >&2
            exit 1
        fi
        printf '%s: port %s is in use, so this job takes port %s; PORT= chooses one\n' "$name" "$port" "$other" >&2
        port="$other"
    fi

    exec python "$root/tools/torchrun.py" \
        --nnodes "$nodes" \
        --node_rank "$node" \
        --nproc_per_node "$gpus" \
        --max_restarts "$restarts" \
        --master_addr "${MASTER_ADDR:-127.0.0.1}" \
        --master_port "$port" \
        "$root/tools/$tool" "${files[@]}" --launcher pytorch "$@"
}

# Prints the port if this machine can listen there (0: any free one), otherwise why it cannot, and fails.
mvp_try_port() {
    python - "$1" <<'PYTHON'
import socket
import sys

dual = socket.has_dualstack_ipv6()
family = socket.AF_INET6 if dual else socket.AF_INET
try:
    with socket.create_server(('', int(sys.argv[1])), family=family, dualstack_ipv6=dual) as server:
        print(server.getsockname()[1])
except OSError as error:
    print(error.strerror.partition(' (')[0])
    sys.exit(1)
PYTHON
}

# mvp_distributed_usage NAME TOOL FILE_ARGUMENTS
mvp_distributed_usage() {
    cat <<TEXT
Usage: bash tools/$1 $3 GPUS [ARGUMENT ...]

  GPUS       processes on this machine, one a GPU
  ARGUMENT   goes to tools/$2

Environment:
  MAX_RESTARTS times to start all processes again after one has failed or was killed (default 0);
               training goes on from its last checkpoint if ARGUMENTs have --resume

Environment, for more than one machine (run it on each):
  NNODES       number of machines             (default 1)
  NODE_RANK    this machine, from 0           (default 0)
  MASTER_ADDR  address of machine 0           (default 127.0.0.1)
  PORT         a free port there; another one for each job on a machine (default 29500, or
               on one machine, where that is in use, any that is free)
TEXT
}
