FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv==0.13.8
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never \
    VIRTUAL_ENV=/opt/imprimatur
RUN uv venv "$VIRTUAL_ENV"
WORKDIR /build

# The dependencies first: this layer stays while only the code changes.
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --requirements pyproject.toml

COPY README.md ./
COPY domain ./domain
COPY commands ./commands
COPY projections ./projections
COPY ingest ./ingest
COPY api ./api
COPY runtime ./runtime
RUN --mount=type=cache,target=/root/.cache/uv uv pip install --no-deps .


FROM python:3.13-slim
# A named volume takes over the owner and the mode of the folder that it covers.
RUN groupadd --gid 10001 imprimatur \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin imprimatur \
    && install --directory --owner=imprimatur --group=imprimatur --mode=0700 /scratch
COPY --from=build /opt/imprimatur /opt/imprimatur
ENV PATH=/opt/imprimatur/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
CMD ["imprimatur", "api"]
