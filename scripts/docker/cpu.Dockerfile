# SceneGen without a GPU; built by scripts/docker/build.sh, which gives the digest of the base
ARG BASE_DIGEST
FROM docker.io/library/python@${BASE_DIGEST}

RUN useradd --create-home --uid 1000 scenegen
WORKDIR /home/scenegen/app
COPY --chown=scenegen . .
USER scenegen
RUN bash setup.sh --cpu --data --eval --ray --stores
ENV PATH=/home/scenegen/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1
# weights are mounted, not copied: docker run -v /path/to/weights:/weights:ro
VOLUME ["/weights"]
CMD ["scenegen", "--help"]
