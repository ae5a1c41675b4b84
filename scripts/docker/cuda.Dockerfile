# SceneGen on an NVIDIA GPU; built by scripts/docker/build.sh, which gives the digest of the base
ARG BASE_DIGEST
FROM docker.io/library/python@${BASE_DIGEST}

# PyTorch's wheels bring the libraries of CUDA, and the NVIDIA container toolkit the driver
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN useradd --create-home --uid 1000 scenegen
WORKDIR /home/scenegen/app
COPY --chown=scenegen . .
USER scenegen
ARG TORCH_INDEX=https://download.pytorch.org/whl/cu130
RUN bash setup.sh --torch-index "$TORCH_INDEX" --train --eval --ray --stores
ENV PATH=/home/scenegen/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1
# weights are mounted, not copied: docker run --gpus all -v /path/to/weights:/weights:ro
VOLUME ["/weights"]
CMD ["scenegen", "--help"]
