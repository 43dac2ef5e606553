#!/usr/bin/env bash
# From nothing to the whole chain on rendered scenes, or to a first pre-training on a folder of images.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bash tools/quickstart.sh [IMAGE_FOLDER]

Sets up mvp_mm (in the active environment, or in .venv), then

  without a folder   shows the whole chain on rendered scenes, nothing to download: pre-trains a tiny
                     student with the embedded CLIP for two minutes, fine-tunes UperNet with 300 labelled
                     scenes from the shipped student and from scratch, compares, and draws. Under 10
                     minutes on two idle CPU cores, once all is installed.
  IMAGE_FOLDER       pre-trains a student of that size by the package's small CLIP of photographs, for two
                     epochs on any folder of images, flat or nested, with or without classes: a minute for
                     some hundreds.

Results lie in work_dirs/quickstart of the clone.
TEXT
}

case "${1:-}" in
    -h | --help)
        usage
        exit
        ;;
    -*)
        printf 'quickstart.sh: unknown option %s\n\n' "$1" >&2
        usage >&2
        exit 2
        ;;
esac
if (($# > 1)); then
    printf 'quickstart.sh: one folder at most, got %d arguments (quote a path with spaces)\n\n' $# >&2
    usage >&2
    exit 2
fi

images=''
if [[ -n "${1:-}" ]]; then
    if [[ ! -d "$1" ]]; then
        printf 'quickstart.sh: no such folder: %s\n' "$1" >&2
        exit 2
    fi
    images="$(CDPATH='' cd -- "$1" && pwd)"
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/tools/setup_env.sh"
mvp_setup_env
# The paths below stay relative to here, so whatever characters the clone's own path has, they are
# not on a command line.
cd "$root"
work_dir=work_dirs/quickstart
mkdir -p "$work_dir"

whole_chain() {
    mvp_say 'rendering a sheet of scenes'
    python tools/browse_scenes.py --out "$work_dir/scenes.png" --count 24
    python tools/demonstrate.py --out "$work_dir"
    mvp_say 'drawing'
    python tools/plot_curves.py "$work_dir/pretraining" --keys loss 'cosine_*' '*excess' \
        --out "$work_dir/curves_pretraining.png"
    python tools/plot_curves.py "$work_dir/shipped_student" "$work_dir/from_scratch" --keys loss \
        decode.acc_seg --smooth 0.9 --out "$work_dir/curves_segmentation.png"
    python tools/visualize_attention.py scenes:test:0 scenes:test:1 scenes:test:2 scenes:test:3 \
        --out "$work_dir/attention.png" --show attention pca --teacher \
        --model configs/mvp/vittiny_scenes.py random 'before training' \
        --model configs/mvp/vittiny_scenes.py configs/mvp/vittiny_scenes.safetensors 'shipped student'
    cat <<TEXT

[mvp_mm] Done. In $root/$work_dir:
  scenes.png               what the world looks like
  curves_pretraining.png   loss, cosines, and the cosine above the best constant prediction
  curves_segmentation.png  UperNet from the shipped student and from scratch
  segmentation.png         test scenes, their labels, and what each model sees
  attention.png            the paper's Figure 3: what CLS looks at, and tokens as colours, beside the teacher
  scores.json              the two mIoU

TEXT
}

run_folder() {
    local out
    out="$work_dir/folder_$(date +%Y%m%d_%H%M%S)"
    mvp_say 'pre-training a tiny student on your images'
    mvp-mm pretrain --data "$images" --student vit-tiny --epochs 2 --out "$out"
}

if [[ -z "$images" ]]; then whole_chain; else run_folder; fi
cat <<TEXT
Next, on ImageNet (data/imagenet/train/<wnid>/*) or on any folder of images, from $root:
TEXT
if [[ "${VIRTUAL_ENV:-}" == "$root/.venv" ]]; then
    printf '  source .venv/bin/activate\n'
fi
cat <<'TEXT'
  python tools/train.py configs/mvp/vitb16_in1k.py --cfg-options train_dataloader.dataset.data_root=IMAGE_FOLDER
  bash tools/dist_train.sh configs/mvp/vitb16_in1k.py 8      # the same on 8 GPUs
and the paper's comparison in miniature (docs/miniature.md):
  python tools/reproduce_miniature.py --length 10min
TEXT
