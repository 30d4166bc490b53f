# restorevar as a service, on a CPU or on NVIDIA GPUs. How to build and run it: docs/docker.md.

ARG PYTHON=3.12.11-slim-bookworm

FROM python:${PYTHON} AS build
# Where torch comes from. Empty: PyPI, whose build brings CUDA along and runs without a GPU, too. docs/docker.md: a smaller one.
ARG TORCH_INDEX=
ARG EXTRAS=serve,video
RUN python -m venv /opt/restorevar
ENV PATH=/opt/restorevar/bin:$PATH
# Torch by itself first: this layer, by far the largest, stays when only the code has changed.
# The bounds are there; the expansion before them hides them from the linter.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "torch>=2.9,<2.14"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY restorevar restorevar
COPY examples/photos examples/photos
# The folder itself has no version to pin; those of what it needs are in pyproject.toml.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[${EXTRAS}]"

FROM python:${PYTHON} AS run
# A user without rights, a number for those who check that it is not root; a folder of its own for jobs and models.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin restorevar \
    && install --directory --owner=10001 --group=10001 --mode=700 /data
COPY --from=build /opt/restorevar /opt/restorevar
# Nothing but /data and /tmp is written to: the root file system may be read-only.
ENV PATH=/opt/restorevar/bin:$PATH \
    HF_HOME=/data/huggingface \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /data
WORKDIR /tmp
EXPOSE 7860
# The model is loaded before the service answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
ENTRYPOINT ["restorevar"]
CMD ["serve", "--host", "0.0.0.0", "--port", "7860", "--jobs", "/data/jobs"]
