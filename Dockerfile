# The gateway alone: small, non-root, no engine. Build from the checkout: docker build -t tollgate .
FROM python:3.11-slim AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
COPY pyproject.toml setup.py README.md LICENSE ./
COPY deploy/locks/gateway.txt deploy/locks/gateway.txt
COPY gateway gateway
COPY workers/__init__.py workers/__init__.py
# The data plane is compiled, by the mypyc of the lock; this image's Python is itself built for speed (PGO and LTO).
ENV PIP_CONSTRAINT=/src/deploy/locks/gateway.txt
RUN python -m venv /opt/tollgate \
 && /opt/tollgate/bin/pip install --no-cache-dir ".[otel]" \
 && /opt/tollgate/bin/tollgate --version | grep -q compiled \
 && find /opt/tollgate -name __pycache__ -type d -prune -exec rm -rf {} +

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/tollgate --create-home tollgate
COPY --from=build /opt/tollgate /opt/tollgate
ENV PATH=/opt/tollgate/bin:$PATH PYTHONUNBUFFERED=1
# gateway.yaml's relative paths (the ledger) lie here: mount a volume
WORKDIR /var/lib/tollgate
USER tollgate
EXPOSE 4000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:4000/healthz', timeout=2)"]
# SIGTERM drains (server.drain_seconds); give the container that and 15 s to stop
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve", "--config", "/etc/tollgate"]
