# One image for every process: docs/architecture.md names them, Procfile has their command lines.

FROM node:24-bookworm-slim AS pages
WORKDIR /src/app/web/assets
COPY app/web/assets/package.json app/web/assets/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY app/web/assets ./
RUN npm run build \
    && npm sbom --omit dev --package-lock-only --sbom-format cyclonedx > /src/sbom-pages.cdx.json

FROM python:3.11-slim-bookworm AS packages
# One of the packages is compiled where its wheel does not fit the machine. Debian keeps no old versions, so
# that a pinned one would soon break the build; the compiler does not get into the image.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib

# What is in the image is read from what was installed, by a program that does not get into it.
FROM packages AS sbom
COPY requirements-sbom.txt pyproject.toml ./
RUN python -m venv /opt/sbom \
    && /opt/sbom/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements-sbom.txt \
    && /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.cdx.json /opt/venv/bin/python

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="Semantic Explorer" \
      org.opencontainers.image.licenses="Apache-2.0"
# libgomp is what onnxruntime and scikit-learn compute with.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 explorer \
    && useradd --uid 10001 --gid explorer --no-create-home --home-dir /tmp --shell /usr/sbin/nologin explorer \
    && install -d -o explorer -g explorer /var/cache/semantic-explorer
COPY --from=packages /opt/venv /opt/venv
COPY --from=sbom /src/sbom.cdx.json /usr/share/doc/semantic-explorer/
COPY --from=pages /src/sbom-pages.cdx.json /usr/share/doc/semantic-explorer/
WORKDIR /srv/semantic-explorer
COPY pyproject.toml gunicorn.conf.py wsgi.py LICENSE ./
COPY alembic ./alembic
COPY brokers ./brokers
COPY tasks ./tasks
COPY app ./app
# The panel shows them.
COPY docs/runbooks ./docs/runbooks
COPY --from=pages /src/app/web/static/build ./app/web/static/build
# The root may be read-only: what is written goes to /tmp and to the cache, which are volumes then.
ENV PATH="/opt/venv/bin:${PATH}" \
    PYTHONUTF8=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MODEL_CACHE_DIR=/var/cache/semantic-explorer/models \
    NUMBA_CACHE_DIR=/var/cache/semantic-explorer/numba
USER 10001:10001
EXPOSE 8080 8081
# No shell, so that a signal reaches the server itself.
CMD ["gunicorn", "wsgi:app", "--bind", "0.0.0.0:8080", "--worker-class", "gthread", "--threads", "32", "--graceful-timeout", "30", "--timeout", "120"]
