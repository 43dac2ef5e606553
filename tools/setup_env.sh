#!/usr/bin/env bash
# Gives a script a `python` that has mvp_mm and all it needs. Other scripts source it:
#
#     source tools/setup_env.sh
#     mvp_setup_env [EXTRA ...]    # EXTRA: the extras of setup.py beside `openmmlab`, e.g. `tests`
#
# Run as `bash tools/setup_env.sh [EXTRA ...]`, it only sets up.
#
# The environment is the active one (venv or conda), or else `.venv` in the clone, made at need.
#
#   MVP_MM_FREE_GB   free disk space in GB that a first installation must find (default 12, on macOS,
#                    where torch comes without CUDA, 4); 0 turns the check off.

# Messages quote commands and variables for the reader; nothing is to be expanded in them.
# shellcheck disable=SC2016

MVP_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
# Interpreters worth trying for a new environment, newest first.
MVP_CANDIDATES=(python3.13 python3.12 python3.11 python3.10 python3 python)
MVP_IS_SUPPORTED='import sys; sys.exit(sys.version_info < (3, 10))'

mvp_say() { printf '[mvp_mm] %s\n' "$*"; }

# mvp_fail MESSAGE [WHAT TO DO ...]
mvp_fail() {
    printf '\n[mvp_mm] ERROR: %s\n' "$1" >&2
    shift
    if (($#)); then printf '         %s\n' "$@" >&2; fi
    exit 1
}

# Prints the folder of the active environment. Conda's `base` does not count: it is active in every
# shell of many machines, and nobody expects gigabytes of torch to land there.
mvp_active_env() {
    if [[ -n "${VIRTUAL_ENV:-}" ]]; then
        printf '%s\n' "$VIRTUAL_ENV"
    elif [[ -n "${CONDA_PREFIX:-}" && "${CONDA_DEFAULT_ENV:-}" != base ]]; then
        printf '%s\n' "$CONDA_PREFIX"
    fi
}

# Puts the environment's `python` first on PATH if there is one already; installs nothing.
mvp_use_env() {
    local env
    env="$(mvp_active_env)"
    if [[ -z "$env" ]]; then env="$MVP_ROOT/.venv"; fi
    if [[ -x "$env/bin/python" ]]; then
        export PATH="$env/bin:$PATH"
    fi
    if ! command -v python >/dev/null; then
        mvp_fail 'there is no `python` on PATH.' \
            'Activate the environment in which mvp_mm is installed, or run `bash tools/setup_env.sh`.'
    fi
}

# Prints the interpreter for a new environment.
mvp_find_python() {
    local name version seen=''
    for name in "${MVP_CANDIDATES[@]}"; do
        # A name on PATH may be a version manager's stand-in that runs nothing: ask, do not trust.
        version="$("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null)" ||
            continue
        if ! "$name" -c "$MVP_IS_SUPPORTED"; then
            seen+="${seen:+, }$name is $version"
        elif ! "$name" -c 'import ensurepip, venv' 2>/dev/null; then
            seen+="${seen:+, }$name ($version) lacks the venv module (Debian, Ubuntu: package python3-venv)"
        else
            printf '%s\n' "$name"
            return
        fi
    done
    mvp_fail "mvp_mm needs Python 3.10 or newer; found: ${seen:-no Python at all}." \
        'Install a newer Python, or activate an environment that has one, and run this again.'
}

# Makes the clone's own environment, or mends one whose making was interrupted.
mvp_make_venv() {
    local env="$MVP_ROOT/.venv" base
    # The mark says that this script made the folder and may make it anew.
    local mark="$env/made-by-mvp_mm"
    if "$env/bin/python" -c "$MVP_IS_SUPPORTED" 2>/dev/null; then
        if "$env/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
        # uv and others make environments without pip.
        if "$env/bin/python" -m ensurepip >/dev/null 2>&1; then return; fi
    fi
    if [[ -e "$env" && ! -e "$mark" && -n "$(ls -A "$env" 2>/dev/null)" ]]; then
        mvp_fail "$env is not a working environment with Python 3.10 or newer and pip." \
            'This script did not make it, so it leaves it alone. Remove it, or activate another.'
    fi
    base="$(mvp_find_python)" || exit 1
    mvp_say "making $env with $("$base" --version 2>&1)"
    rm -rf "$env"
    if ! mkdir "$env" || ! touch "$mark"; then
        mvp_fail "cannot write to $MVP_ROOT." \
            'Clone to a folder of your own, or activate an environment.'
    fi
    if ! "$base" -m venv "$env" >"$mark" 2>&1; then
        mvp_fail "cannot make an environment in $env: $(tail -n 1 "$mark")"
    fi
}

# mvp_pip LOG ARGUMENTS: runs pip in the clone. Its progress goes to the terminal, everything to LOG;
# what it says on stderr goes to MVP_PIP_ERRORS alone, where it cannot drown the one message that
# mvp_explain_pip gives. (Not read from LOG afterwards: on a full disk that stays empty.)
mvp_pip() {
    local log="$1"
    shift
    {
        MVP_PIP_ERRORS="$(cd "$MVP_ROOT" &&
            python -m pip --disable-pip-version-check --no-input --log "$log" "$@" 2>&1 1>&3)"
    } 3>&1
}

# Says once what went wrong with pip, which names every address it tried; this message names none.
mvp_explain_pip() {
    local log="$1" no_space no_index
    no_space='No space left on device|Errno 28|Disk quota exceeded'
    no_index='NewConnectionError|ConnectTimeoutError|ReadTimeoutError|NameResolutionError|ProxyError'
    no_index+='|SSLError|Max retries|Connection (refused|reset|broken|aborted)|IncompleteRead'
    no_index+='|No matching distribution found for setuptools'
    if grep -qE "$no_space" <<<"$MVP_PIP_ERRORS"; then
        mvp_fail 'the disk filled up during the installation.' \
            'Free some space (a full installation takes about 7 GB, its downloads 4 GB) and run this' \
            'again. pip downloads to $TMPDIR, and keeps copies that `python -m pip cache purge` removes.'
    elif grep -qE "$no_index" <<<"$MVP_PIP_ERRORS"; then
        mvp_fail 'the package index cannot be reached.' \
            'Check the network, the proxy variables and `python -m pip config list`, then run this again.' \
            "pip's own account: $log"
    fi
    printf '\n' >&2
    grep -iE '^ *(error|×|[a-z]+error:)' <<<"$MVP_PIP_ERRORS" | tail -n 5 >&2 || true
    mvp_fail 'pip could not install what is needed (its words above).' "Everything it did: $log"
}

# opencv-python wants a graphics library that servers and containers often lack; its headless edition
# is the same module without windows. Laid over it, because mmcv asks for opencv-python by name.
mvp_mend_opencv() {
    local own="$1" log="$2" reason version
    if reason="$(python "$MVP_ROOT/tools/check_env.py" imports cv2)"; then return; fi
    version="$(python -c 'from importlib.metadata import version; print(version("opencv-python"))' 2>/dev/null)" ||
        mvp_fail "cannot import OpenCV: $reason"
    if [[ "$own" == yes ]]; then
        mvp_say "no graphics library on this machine ($reason): installing OpenCV's headless edition"
        mvp_pip "$log" install --no-deps --force-reinstall "opencv-python-headless==$version" ||
            mvp_explain_pip "$log"
    else
        mvp_fail "cannot import OpenCV: $reason" \
            'Either install the missing system library, or OpenCV without windows:' \
            "python -m pip install --no-deps --force-reinstall opencv-python-headless==$version"
    fi
}

# mvp_is_current STATE FINGERPRINT EXTRA ...: whether the last installation still serves.
mvp_is_current() {
    local state="$1" fingerprint="$2" name
    shift 2
    for name in base "$@"; do
        if [[ "$(cat "$state/$name" 2>/dev/null)" != "$fingerprint" ]]; then return 1; fi
    done
    # Somebody may have removed packages since.
    python "$MVP_ROOT/tools/check_env.py" present mvp_mm torch torchvision mmengine mmcv mmpretrain \
        mmseg open_clip timm
}

# mvp_install ENV OWN STATE FINGERPRINT EXTRA ...
mvp_install() {
    local env="$1" own="$2" state="$3" fingerprint="$4"
    shift 4
    local check="$MVP_ROOT/tools/check_env.py" log="$state/pip.log" extras=() files=() options=()
    local name found reason scratch free_gb=12

    if ! mkdir -p "$state" 2>/dev/null || [[ ! -w "$state" ]]; then
        mvp_fail "cannot write to the environment $env." \
            'Activate one of your own, or none: then .venv in the clone is used.'
    fi
    rm -f "$log" "$state"/base
    for name in "$@"; do rm -f "$state/$name"; done

    # The original OpenMMLab packages install the same folders as the maintained line, which must
    # not be written over them.
    if ! found="$(python "$check" originals)"; then
        extras=(openmmlab)
    elif ! reason="$(python "$check" imports mmengine mmcv mmpretrain mmseg)"; then
        mvp_fail "this environment has $found, but not all of what mvp_mm needs works: $reason" \
            'Complete it (mmengine, mmcv, mmpretrain, mmsegmentation), or use an environment without' \
            'these packages: then their maintained editions are installed.'
    else
        mvp_say "keeping this environment's $found"
    fi
    extras+=("$@")

    files=("$MVP_ROOT/requirements/runtime.txt")
    for name in ${extras[@]+"${extras[@]}"}; do
        files+=("$MVP_ROOT/requirements/$name.txt")
        if [[ "$name" == tests ]]; then  # as setup.py has it
            files+=("$MVP_ROOT/requirements/"{teachers,export,docs,parquet}.txt)
        fi
    done
    if python "$check" unmet "${files[@]}" >"$state/unmet"; then
        # Only this package is left, which needs no network if setuptools is there.
        options=(--no-deps)
        if python -c 'import importlib.metadata as m, sys; sys.exit(tuple(map(int, m.version("setuptools").split(".")[:2])) < (70, 1))' 2>/dev/null; then
            options+=(--no-build-isolation)
        fi
    else
        if [[ "$(uname -s)" == Darwin ]]; then free_gb=4; fi
        free_gb="${MVP_MM_FREE_GB:-$free_gb}"
        # Half-way through, or with torch in place, the rest is small.
        if ! grep -qE '^torch(vision)?\b' "$state/unmet" && [[ -z "${MVP_MM_FREE_GB:-}" ]]; then free_gb=2; fi
        scratch="$(python -c 'import tempfile; print(tempfile.gettempdir())' 2>/dev/null)" ||
            mvp_fail 'there is no folder for temporary files (or its disk is full); set TMPDIR.'
        if ! reason="$(python "$check" disk "$env" "$free_gb" "$scratch" 4)"; then
            mvp_fail "the disk is too full: $reason." \
                'Free some space, or clone to (and set TMPDIR to) a larger disk. Where the figure is too' \
                'careful for what you install, MVP_MM_FREE_GB=<GB> sets another; 0 turns this check off.'
        fi
    fi
    if [[ " ${options[*]-} " != *' --no-build-isolation '* ]]; then
        mvp_say 'asking the package index'
        # Short patience for one small file that the build needs anyway: pip's own would be minutes.
        scratch="$(mktemp -d)" || mvp_fail 'there is no room for temporary files; set TMPDIR.'
        if ! mvp_pip "$log" --timeout 20 --retries 1 download --quiet --no-deps --dest "$scratch" \
            'setuptools>=70.1'; then
            rm -rf "$scratch"
            mvp_explain_pip "$log"
        fi
        rm -rf "$scratch"
    fi

    mvp_say "installing mvp_mm and what it needs into $env (a few GB and minutes the first time)"
    name="$(IFS=,; printf '%s' "${extras[*]-}")"
    # A dot, not the path, whose spaces and signs pip would take for its own. `compat` puts the clone on
    # the path: with setuptools' own finder, Python in the folder above the clone would take the clone itself
    # for an empty package of the same name.
    mvp_pip "$log" install ${options[@]+"${options[@]}"} --config-settings editable_mode=compat \
        --editable ".${name:+[$name]}" ||
        mvp_explain_pip "$log"
    mvp_mend_opencv "$own" "$log"
    mvp_say 'checking that it all imports'
    if ! reason="$(python "$check" imports torch torchvision mmengine mmcv mmpretrain mmseg open_clip \
        timm 2>/dev/null)"; then
        mvp_fail "installed, but cannot import $reason"
    fi
    # Last, so that an interrupted installation is taken up again.
    for name in base "$@"; do printf '%s\n' "$fingerprint" >"$state/$name"; done
}

mvp_setup_env() {
    local env own=no state fingerprint
    if [[ ! -f "$MVP_ROOT/setup.py" ]]; then
        mvp_fail 'this script sets up a clone, and runs from an installed package here.' \
            'The package is there already; only its tools/*.py and launchers are of use.'
    fi
    env="$(mvp_active_env)"
    if [[ -z "$env" ]]; then
        env="$MVP_ROOT/.venv"
        own=yes
    elif [[ ! -x "$env/bin/python" ]]; then
        mvp_fail "the active environment $env has no bin/python." \
            'Deactivate it (`unset VIRTUAL_ENV CONDA_PREFIX`), or activate another.'
    elif ! "$env/bin/python" -c "$MVP_IS_SUPPORTED"; then
        mvp_fail "mvp_mm needs Python 3.10 or newer; found: $("$env/bin/python" --version 2>&1) in the active environment $env." \
            'Activate another environment, or none: then .venv in the clone is made and used.'
    fi
    state="$env/mvp_mm-setup"

    # One set-up at a time. The lock is on the folder itself, so nothing is left behind when the
    # script is killed. Where there is no flock (macOS), two at once are the user's care.
    if command -v flock >/dev/null; then
        if [[ "$own" == yes ]]; then exec 9<"$MVP_ROOT"; else exec 9<"$env"; fi
        if ! flock -n 9; then
            mvp_say 'another set-up is at work here; waiting for it'
            flock 9 || true
        fi
    fi
    trap 'mvp_fail "interrupted; run it again to go on."' INT TERM

    if [[ "$own" == yes ]]; then mvp_make_venv; fi
    export PATH="$env/bin:$PATH"
    if [[ "$own" == yes ]]; then export VIRTUAL_ENV="$env"; fi
    fingerprint="$(python "$MVP_ROOT/tools/check_env.py" fingerprint "$MVP_ROOT")"
    if mvp_is_current "$state" "$fingerprint" "$@"; then
        mvp_say "using $env"
    else
        mvp_install "$env" "$own" "$state" "$fingerprint" "$@"
        mvp_say "$env is ready"
    fi

    trap - INT TERM
    # Not inherited by what runs next.
    exec 9<&-
}

if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    set -euo pipefail
    mvp_setup_env "$@"
fi
