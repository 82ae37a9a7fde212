# The same content as the image that `cargo xtask up` makes without Docker: four static binaries, CA certificates and one
# unprivileged user. No shell, no libraries. `docker build -t fuse .`
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ENV RUSTFLAGS="-C target-feature=+crt-static"
# With --target the flags spare build scripts and procedural macros, which cannot be static.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && cargo build --release --locked --target "$target" \
        -p api-service -p cache-refresher -p report-job -p operator \
    && mkdir -p /image/usr/local/bin /image/etc/ssl/certs \
    && for name in api-service cache-refresher report-job operator; do \
        install -m 0755 "target/$target/release/$name" /image/usr/local/bin/; done \
    && install -m 0644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && printf 'root:x:0:0:root:/:/sbin/nologin\nfuse:x:65532:65532:fuse:/:/sbin/nologin\n' > /image/etc/passwd \
    && printf 'root:x:0:\nfuse:x:65532:\n' > /image/etc/group

FROM scratch
COPY --from=build /image/ /
ENV PATH=/usr/local/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
WORKDIR /
USER 65532:65532
