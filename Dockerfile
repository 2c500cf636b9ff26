# One worker. Kafka and Redis are others' containers: set CONTINUUM_KAFKA_BOOTSTRAP and CONTINUUM_REDIS_URL.
FROM python:3.11-slim AS build
COPY .requirements/runtime.txt /build/
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes --requirement /build/runtime.txt

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home continuum && install --directory --owner continuum /data
COPY --from=build /venv /venv
WORKDIR /continuum
COPY app app
COPY tables tables
COPY agents agents
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    CONTINUUM_DATADIR=/data CONTINUUM_WEB_PORT=6066
USER continuum
# Keep the folder between runs: the worker's name and tables lie there, and a restart then reads no changelog.
VOLUME /data
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/healthz', timeout=3)"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["worker"]
