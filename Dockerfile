# Static binaries on nothing at all. `make image` builds them and then this.
FROM scratch
ARG DIST=build/linux-amd64
COPY ${DIST}/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY ${DIST}/bin/ /bin/
ENV PATH=/bin
USER 65532:65532
ENTRYPOINT ["fusillade"]
