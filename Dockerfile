# One image for a worker, for `continuum` commands, and for the function in AWS Lambda:
#
#   worker      the image as it is; `worker --tiers rt` and any other `continuum` command as its CMD
#   function    CMD `function serve`, fed by a poller of ours
#   Lambda      ENTRYPOINT `python -m awslambdaric`, CMD `app.serverless.handler.handler` (as in its ImageConfig)
#
# Kafka and Redis are others' containers: set CONTINUUM_KAFKA_BOOTSTRAP and CONTINUUM_REDIS_URL.
#
# The base is pinned by its tag, which takes security fixes of Debian and Python 3.11 as it is rebuilt. For the same
# bytes every time give its digest: --build-arg BASE=python:3.11-slim-trixie@sha256:...
ARG BASE=python:3.11-slim-trixie

FROM ${BASE} AS build
COPY .requirements/image.txt /build/
RUN python -m venv /venv && \
    /venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /build/image.txt
COPY app /continuum/app
COPY tables /continuum/tables
COPY agents /continuum/agents
# Compiled here, for nobody may write there later: a cold function would compile every module each time.
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /continuum

FROM ${BASE}
# By number: Kubernetes knows only so that it is not root. Nothing needs an account's name or its home.
RUN install --directory --owner 10001 --group 10001 /data
COPY --from=build /venv /venv
COPY --from=build /continuum /continuum
WORKDIR /continuum
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    CONTINUUM_DATADIR=/data CONTINUUM_WEB_PORT=6066
USER 10001:10001
# Keep the folder between runs: the worker's name and tables lie there, and a restart then reads no changelog.
VOLUME /data
EXPOSE 6066
# Of a worker; whoever runs something else turns it off.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=4 CMD ["python", "-m", "app.web.probe"]
ENTRYPOINT ["python", "-m", "app"]
CMD ["worker"]
