# One image for every role: `chronotope worker`, `chronotope serve`, `chronotope topics apply`.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY processors processors
COPY streams streams
COPY model_server model_server
COPY chronotope chronotope
# TORCH_ARGS picks a smaller torch for machines without a GPU, as in the Makefile.
ARG TORCH_ARGS=""
RUN python -m venv /opt/chronotope \
 && if [ -n "$TORCH_ARGS" ]; then /opt/chronotope/bin/pip install --no-cache-dir $TORCH_ARGS; fi \
 && /opt/chronotope/bin/pip install --no-cache-dir .

FROM python:3.11-slim
RUN useradd --uid 10001 --create-home chronotope \
 && install -d -o chronotope /var/lib/chronotope /var/cache/chronotope
COPY --from=build --chown=chronotope /opt/chronotope /opt/chronotope
ENV PATH=/opt/chronotope/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NUMBA_CACHE_DIR=/var/cache/chronotope
USER chronotope
# Compiles every kernel once, so that a container starts in seconds.
RUN python -m chronotope.kernels
ENTRYPOINT ["chronotope"]
CMD ["--help"]
