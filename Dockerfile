# zoo in a container. For a GPU give a base with CUDA and the index of its torch builds:
#   docker build -t zoo .
#   docker build -t zoo-cuda --build-arg BASE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 \
#     --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm -v "$PWD":/data zoo compress vdvae-photos-8bit photo.png --output photo.zoo
ARG BASE=python:3.12-slim
FROM ${BASE}
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN command -v python3 >/dev/null && python3 -m venv --help >/dev/null 2>&1 \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/zoo
ENV PATH=/opt/zoo/bin:$PATH OMP_WAIT_POLICY=PASSIVE
COPY . /src
RUN pip install --no-cache-dir --constraint /src/constraints.txt --extra-index-url ${TORCH_INDEX} torch==2.13.0 /src \
    && rm -rf /src
WORKDIR /data
ENTRYPOINT ["zoo"]
CMD ["--help"]
