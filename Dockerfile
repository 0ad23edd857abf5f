# Stage 1 compiles everything, OpenSSL and librdkafka too: the full image and not the slim one has gcc, g++, make and perl.
# Its Debian is that of the final stage, so that the C library is the same.
FROM rust:1.95-trixie AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY avro avro
# The pages of `explain` are compiled in.
COPY docs/errors docs/errors
COPY src src
# The caches keep the registry and the compiled dependencies between builds; they are not part of the image, so the program
# is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --no-default-features --bin d02-source \
    && install -D target/release/d02-source /out/d02-source

# Stage 2 has the C library, CA certificates, and neither shell nor package manager.
FROM gcr.io/distroless/cc-debian13:nonroot
LABEL org.opencontainers.image.title="d02-source" \
      org.opencontainers.image.description="Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/d02-source /usr/local/bin/d02-source
# The HTTP client looks for the system's CAs in the usual places by itself. librdkafka asks OpenSSL, which was built from
# source and would look in /usr/local/ssl only.
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
# "nonroot", as a number, so that Kubernetes' runAsNonRoot can tell.
USER 65532:65532
STOPSIGNAL SIGTERM
# The image has no HTTP client, so the program asks itself whether its loops turn (/livez). It knows `http.listen` from the
# environment alone: D02__HTTP__LISTEN=127.0.0.1:8080. Without, nothing is asked, and nothing is unhealthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/d02-source", "run", "--health-check"]
ENTRYPOINT ["/usr/local/bin/d02-source"]
CMD ["--help"]
