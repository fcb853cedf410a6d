# One image for every role: `imgsync serve`, `imgsync worker`, single commands.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m venv /imgsync && /imgsync/bin/pip install --no-cache-dir '.[serve,postgresql,notify]'

FROM python:3.13-slim
# Not root, and with a number, as Kubernetes asks for one to believe that.
RUN useradd --uid 10001 --create-home imgsync && install -d -o imgsync -g imgsync /data /key /cache
COPY --from=build /imgsync /imgsync
ENV PATH=/imgsync/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    IMGSYNC_DATABASE_URL=sqlite:////data/imgsync.db \
    IMGSYNC_KEY_FILE=/key/imgsync.key \
    IMGSYNC_TEMP_DIR=/cache/images \
    IMGSYNC_MINIATURES_DIR=/cache/miniatures \
    IMGSYNC_LOG_FORMAT=json
USER 10001
VOLUME ["/data", "/key", "/cache"]
EXPOSE 8425
# A worker finishes what it has begun; see grace_seconds.
STOPSIGNAL SIGTERM
ENTRYPOINT ["imgsync"]
CMD ["--help"]
