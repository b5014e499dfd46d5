# prefect-reconciler as a container; docs/container.md tells how to run it. Plain enough for the legacy builder.
# Any base with Python 3.11 or newer and its venv module does; both stages need the same one.
ARG BASE=python:3.12-slim

FROM ${BASE} AS builder
# What goes in: all, or some of docker,kubernetes,aws,gcp,azure.
ARG EXTRAS=all
# Another package index, if there is one. Asked for in this stage alone, so no later layer or history holds it.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY . .
# pip stays behind in /build; it installs into, and compiles, an environment that never had it.
RUN python3 -m venv /build \
 && python3 -m venv --without-pip /opt/prefect-reconciler \
 && /build/bin/pip --python /opt/prefect-reconciler/bin/python install --no-cache-dir --disable-pip-version-check \
    --constraint constraints.txt ".[${EXTRAS}]"

FROM ${BASE}
# A new volume takes over the owner and the mode that its folder has in the image.
RUN install -d -m 0755 /etc/prefect-reconciler \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/prefect-reconciler
ENV PATH=/opt/prefect-reconciler/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STATE_DIRECTORY=/var/lib/prefect-reconciler \
    RECONCILER_DAEMON__LISTEN=0.0.0.0:9464
VOLUME /var/lib/prefect-reconciler
EXPOSE 9464
USER 10001:10001
STOPSIGNAL SIGTERM
# Asks where the daemon was told to listen (0.0.0.0 is this host, too). Told to listen nowhere, it has nothing to ask.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-IS", "-c", "\
import http.client, os, sys; \
listen = os.environ.get('RECONCILER_DAEMON__LISTEN') or sys.exit(0); \
daemon = http.client.HTTPConnection(listen, timeout=4); \
daemon.request('GET', '/healthz', headers={'Host': 'localhost'}); \
sys.exit(daemon.getresponse().status != 200)"]
ENTRYPOINT ["reconciler"]
ARG VERSION=unknown
LABEL org.opencontainers.image.title="prefect-reconciler" \
      org.opencontainers.image.description="Moves Prefect flow runs whose infrastructure has vanished to Crashed, with the reason" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# Last, because the legacy builder makes a container for every line after it.
COPY --from=builder /opt/prefect-reconciler /opt/prefect-reconciler
