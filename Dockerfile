# mvp_mm on a CPU, or, with --build-arg DEVICE=cuda, on NVIDIA GPUs. Not built by this project: no Docker engine was at
# hand.
#
#     docker build -t mvp_mm .
#     docker build -t mvp_mm --build-arg DEVICE=cuda .
#
# torch's wheels bring the CUDA libraries, and the host the driver, so both start from the same image.
ARG DEVICE=cpu
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS cpu

FROM python:${PYTHON}-slim AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ${DEVICE}
# An index that has torch and torchvision for CPUs only: a CPU image without CUDA's gigabytes.
ARG TORCH_INDEX

# OpenCV, which mmcv imports, wants these two.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/mvp_mm

# The pair first: this layer is large and seldom changes.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY setup.py pyproject.toml README.md model-index.yml ./
COPY requirements requirements
COPY configs configs
COPY tools tools
COPY mvp_mm_command.py ./
COPY mvp_mm mvp_mm
RUN pip install --no-cache-dir ".[openmmlab,export]" && mvp-mm models --pretrained

# Logs and checkpoints go to work_dirs here: mount a folder on it.
WORKDIR /workspace
CMD ["mvp-mm", "doctor"]
