#!/usr/bin/env bash
# Lint, format check, types and tests, with all set-up. Arguments go to pytest.
set -euo pipefail

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    cat <<'TEXT'
Usage: bash tools/run_tests.sh [--fast] [PYTEST_ARGUMENT ...]

Sets up mvp_mm and its test tools (in the active environment, or in .venv), then runs ruff check,
ruff format --check, mypy and pytest; stops at the first that fails. --fast leaves out the tests marked slow:
run it before each commit. Examples:

  bash tools/run_tests.sh --fast
  bash tools/run_tests.sh tests/test_models -x
TEXT
    exit
fi
fast=()
if [[ "${1:-}" == --fast ]]; then
    fast=(-m 'not slow')
    shift
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/tools/setup_env.sh"
mvp_setup_env tests
cd "$root"

# Without its requirements, which would hold numpy and OpenCV back in all other tests; never over the original.
python tools/check_env.py present imgaug mmdet pycocotools ||
    python -c 'import importlib.metadata; importlib.metadata.distribution("mmdet")' 2>/dev/null ||
    python -m pip install --quiet --no-deps -r requirements/detection.txt ||
    mvp_say 'mmdet could not be installed: the tests of detection are skipped'

# The tests' tensors are tiny, with more threads they wait for each other: processes side by side instead, of
# which each may need 3 GB.
cores="$(python tools/check_env.py cores)"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

mvp_say 'ruff check'
python -m ruff check .
mvp_say 'ruff format --check'
python -m ruff format --check .
mvp_say 'mypy'
python -m mypy
mvp_say 'pytest'
python -m pytest --numprocesses $((cores < 4 ? cores : 4)) ${fast[@]+"${fast[@]}"} "$@"
