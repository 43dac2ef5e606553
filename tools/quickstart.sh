#!/usr/bin/env bash
# The main job from nothing: sets up what is needed, then pre-trains a tiny model for a few steps.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: bash tools/quickstart.sh [IMAGE_FOLDER]

Sets up mvp_mm (in the active environment, or in .venv) and pre-trains a tiny ViT with MVP for a few
steps, on a CPU or a GPU, to show that everything works. Takes minutes the first time.

  IMAGE_FOLDER   any folder of at least 8 images, flat or nested, with or without classes;
                 without it, images are rendered

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
    images="$(cd "$1" && pwd)"
fi

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/tools/setup_env.sh"
mvp_setup_env
# The paths below stay relative to here, so whatever characters the clone's own path has, they are
# not on a command line.
cd "$root"
work_dir=work_dirs/quickstart
mkdir -p "$work_dir"

if [[ -z "$images" ]]; then
    images="$work_dir/images"
    mvp_say "rendering 64 images into $images"
    python tools/render_images.py --out "$images" --count 64
elif [[ "$images" == *[!A-Za-z0-9/._@+~-]* ]]; then
    # MMEngine's command line removes spaces from values and splits them at commas.
    link="$work_dir/image_folder"
    rm -f "$link"
    ln -s "$images" "$link"
    images="$link"
fi

mvp_say 'pre-training a tiny ViT'
python tools/train.py configs/mvp/vittiny_debug.py --work-dir "$work_dir" \
    --cfg-options "train_dataloader.dataset.data_root=$images"

# MMEngine logs to a folder named by the time of the start, so the last by name is this run's.
log='none found'
for file in "$work_dir"/*/*.log; do
    if [[ -f "$file" ]]; then log="$root/$file"; fi
done
checkpoint='none found'
if [[ -f "$work_dir/last_checkpoint" ]]; then
    checkpoint="$(<"$work_dir/last_checkpoint")"
    if [[ "$checkpoint" != /* ]]; then checkpoint="$root/$checkpoint"; fi
fi
cat <<TEXT

[mvp_mm] Done.
  log         $log
  checkpoint  $checkpoint

Next, on ImageNet (data/imagenet/train/<wnid>/*) or on any folder of images, from $root:
TEXT
if [[ "${VIRTUAL_ENV:-}" == "$root/.venv" ]]; then
    printf '  source .venv/bin/activate\n'
fi
cat <<'TEXT'
  python tools/train.py configs/mvp/vitb16_in1k.py --cfg-options train_dataloader.dataset.data_root=IMAGE_FOLDER
  bash tools/dist_train.sh configs/mvp/vitb16_in1k.py 8      # the same on 8 GPUs
TEXT
