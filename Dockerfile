# One image for all four roles, built from this repository:
#   docker build -t einmal .
#   docker run --rm einmal --help
# With podman add `--format docker` to the build: its own format has no place for the health check.
# Both stages are of one Debian: what is built against a newer C library does not start on an older one.
FROM rust:1.95-bookworm AS build
# aws-lc needs cmake only where it has no prepared build; on common targets a C compiler is enough.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release --package einmal

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --skel /dev/null --home-dir /data einmal
COPY --from=build /src/target/release/einmal /usr/local/bin/einmal
COPY deploy/entry /usr/local/bin/entry
# By its number, so that an orchestrator can see that it is not root.
USER 10001
# Everything a node keeps lies here; the rest of the file system may be read-only.
VOLUME /data
ENV EINMAL_DIR=/data/node TMPDIR=/data
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["einmal", "status"]
ENTRYPOINT ["/usr/local/bin/entry"]
CMD ["mediator"]
