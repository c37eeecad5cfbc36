# syntax=docker/dockerfile:1

# Builds the environment; pip and what building needs stay behind in this stage.
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv --without-pip /opt/posthouse
WORKDIR /src
# The requirements change seldom: a layer of their own.
COPY requirements.lock requirements-build.lock ./
RUN pip --python /opt/posthouse/bin/python install --require-hashes --no-deps -r requirements.lock \
    && pip install --require-hashes --no-deps -r requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY gen/ gen/
COPY services/ services/
COPY gateway/ gateway/
COPY cli/ cli/
# Without isolation, which would fetch the build backend unlocked.
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/posthouse/bin/python install --no-deps --no-index dist/*.whl

FROM python:3.11-slim
RUN useradd --uid 10001 --home-dir /var/lib/posthouse --create-home --skel /dev/null --shell /usr/sbin/nologin posthouse
COPY --from=build /opt/posthouse /opt/posthouse
ENV PATH=/opt/posthouse/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    POSTHOUSE_HOST=0.0.0.0 \
    POSTHOUSE_DATA_DIR=/var/lib/posthouse \
    POSTHOUSE_SIMULATOR_PATH=/var/lib/posthouse/simulator.db
# By number, so that Kubernetes can see that it is not root.
USER 10001
WORKDIR /var/lib/posthouse
VOLUME /var/lib/posthouse

# HTTP gateway; MessageService, ConversationService, DispatchService.
EXPOSE 8000 50051 50052 50053

# Fits the gateway and the whole stack; docker-compose.yml asks each service by gRPC instead. A check costs most of a
# second of a processor. Images in OCI's format have none: podman build --format docker.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["posthouse", "health"]

ENTRYPOINT ["posthouse"]
# By itself the image runs everything, PostgreSQL and NATS included. It binds to all addresses, and so starts only
# with authentication: docker run -e POSTHOUSE_API_KEY_SECRET=… (see docs/authentication.md).
CMD ["up"]
