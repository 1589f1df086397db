# geofilter on a CPU; `--build-arg TORCH=cu130` takes the CUDA build of torch in its place.
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheels

FROM python:3.12-slim
ARG TORCH=cpu
COPY constraints.txt /tmp/
# Torch from its own index first, then geofilter, which is content with it.
RUN version="$(sed -n 's/^torch==//p' /tmp/constraints.txt)" \
    && pip install --no-cache-dir "torch==$version" \
       --index-url "https://download.pytorch.org/whl/$TORCH"
RUN --mount=from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /tmp/constraints.txt /wheels/*.whl && rm /tmp/constraints.txt
# Files of the caller, packs and models of the user that runs here.
RUN useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["geofilter"]
CMD ["--help"]
