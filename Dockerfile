# syntax=docker/dockerfile:1
# Run the service as an ordinary user, without build tools. docs/operating.md says what was tested.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
COPY requirements ./requirements
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
    && python -m venv --without-pip /opt/imageapi \
    && uv pip sync --no-cache --python /opt/imageapi/bin/python --require-hashes requirements/run.txt \
    && python -m venv --without-pip /opt/build \
    && uv pip sync --no-cache --python /opt/build/bin/python --require-hashes requirements/build.txt
COPY pyproject.toml README.md LICENSE alembic.ini ./
COPY alembic ./alembic
COPY src ./src
RUN /opt/build/bin/hatchling build --target wheel \
    && uv pip install --no-cache --python /opt/imageapi/bin/python --no-deps dist/*.whl

FROM python:${PYTHON}-slim
ARG VERSION=0.1.1
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Image API" \
      org.opencontainers.image.description="The queue of photographs nobody has tagged yet, as an HTTP API" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --system --gid 10001 imageapi \
    && useradd --system --uid 10001 --gid imageapi --home-dir /data --no-create-home imageapi \
    && install --directory --owner=imageapi --group=imageapi --mode=0700 /data \
    && pip uninstall --yes --quiet pip
COPY --from=build /opt/imageapi /opt/imageapi
ENV PATH=/opt/imageapi/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IMAGEAPI_DATA_DIR=/data
USER imageapi
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["imageapi"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
