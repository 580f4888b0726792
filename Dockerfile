# Builds one static binary and ships it alone: no shell, not root. The root file system can be read-only; /data is the only
# place that is written to.
#   docker build -t promptgate . && docker run --read-only -p 127.0.0.1:8080:8080 -e PROMPTGATE_ALLOW_PLAINTEXT=listener -v promptgate:/data promptgate
# In a container every address is reachable from elsewhere: plaintext has to be allowed by name, as here, where the port is this machine's
# alone, or TLS be set up (PROMPTGATE_TLS_CERT_FILE, PROMPTGATE_TLS_KEY_FILE).
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /promptgate ./cmd/promptgate \
 && mkdir -m 0700 /data

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /promptgate /usr/local/bin/promptgate
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532
VOLUME /data
ENV PROMPTGATE_ADDR=0.0.0.0:8080 PROMPTGATE_DATA=/data PROMPTGATE_LOG_FORMAT=json
EXPOSE 8080
ENTRYPOINT ["promptgate"]
CMD ["serve"]
