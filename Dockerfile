# One Artemis node. Configure it with ARTEMIS_… variables or a TOML file; see docs/configuration.md.
#
#     docker build -t artemis .
#     docker run -p 8080:8080 -e ARTEMIS_INSECURE=true -e ARTEMIS_ADVERTISE=http://localhost:8080 -v artemis:/data artemis
#
# The address inside a container is beyond loopback, so a node refuses to start without ARTEMIS_SECRET_FILE or,
# as above, ARTEMIS_INSECURE=true, and without ARTEMIS_ADVERTISE, the URL clients are told. A member also needs
# ARTEMIS_NODE_ID, ARTEMIS_PEERS and ARTEMIS_RAFT_LISTEN=0.0.0.0:9080.

FROM python:3.11-slim AS build
COPY . /source
RUN python -m venv /opt/artemis && /opt/artemis/bin/pip install --no-cache-dir /source

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /data artemis && install --directory --owner=artemis /data
COPY --from=build /opt/artemis /opt/artemis
USER artemis
WORKDIR /data
VOLUME /data
ENV PYTHONUNBUFFERED=1 ARTEMIS_LISTEN=0.0.0.0:8080 ARTEMIS_DATA_DIR=/data/node ARTEMIS_LOG_FORMAT=json
EXPOSE 8080 9080
# Alive, not ready: a node that waits for its peers must not be restarted.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/opt/artemis/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["/opt/artemis/bin/artemis-node"]
