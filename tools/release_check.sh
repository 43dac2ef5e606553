#!/usr/bin/env bash
# Before a release: what a new user does first, in a fresh clone, from nothing.
set -euo pipefail

if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    cat <<'TEXT'
Usage: bash tools/release_check.sh [--tests]

Clones the current commit into a temporary folder and there, in an environment of its own:

  1. bash tools/quickstart.sh            sets up .venv and runs the whole chain
  2. bash tools/quickstart.sh FOLDER     the same on a folder of rendered images
  3. the commands of docs/get_started.md
  4. the notebook, at full length
  5. the site, with warnings as errors
  6. a wheel, whose configs and tools are looked for
  7. with --tests: bash tools/run_tests.sh

It stops at the first that fails, prints the seconds of each, and removes the folder. It wants a network and about
8 GB of disk. These are the set-up commands that the tests leave out, so that the test suite does not call itself.
TEXT
    exit
fi
tests=no
if [[ "${1:-}" == --tests ]]; then tests=yes; fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
git clone --quiet "$root" "$folder/clone"
cd "$folder/clone"
# An active environment would be used instead of a new one.
unset VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV PYTHONPATH

step() {
    local start=$SECONDS
    printf '\n[release] %s\n' "$*"
    "$@"
    printf '[release] %s s: %s\n' "$((SECONDS - start))" "$*"
}

step bash tools/quickstart.sh
source .venv/bin/activate
step python tools/render_images.py --out my_images --count 64
step bash tools/quickstart.sh my_images
step mvp-mm doctor
step mvp-mm pretrain --data my_images --student vit-tiny --epochs 2 --out work_dirs/first
step python tools/visualize_attention.py my_images/00000.png scenes:val:7 --out attention.png --show attention pca \
    --teacher --model work_dirs/first/pretrain.py work_dirs/first/epoch_2.pth MVP
step mvp-mm export timm work_dirs/first/epoch_2.pth student.safetensors
pip install --quiet ".[docs]" nbclient ipykernel build
step jupyter execute notebooks/mvp_in_minutes.ipynb
step python -m sphinx -q -W -b html docs docs/_build
step python -m build --quiet --wheel
python - <<'PYTHON'
import glob
import zipfile

(wheel,) = glob.glob('dist/*.whl')
names = set(zipfile.ZipFile(wheel).namelist())
wanted = {'mvp_mm/.mim/configs/mvp/vitb16_in1k.py', 'mvp_mm/.mim/tools/train.py', 'mvp_mm_command.py'}
missing = wanted - names
if missing:
    raise SystemExit(f'{wheel} lacks {sorted(missing)}')
print(f'{wheel} is whole')
PYTHON
if [[ "$tests" == yes ]]; then step bash tools/run_tests.sh; fi
printf '\n[release] All passed in %s s\n' "$SECONDS"
