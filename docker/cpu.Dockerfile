# Runs on amd64 and arm64, and so on macOS and Windows too. From the project's root:
#   python3 -m pip wheel --no-deps -w dist .
#   docker build -f docker/cpu.Dockerfile -t dlrm:cpu .
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /tmp/dlrm
COPY requirements/constraints.txt dist/dlrm-*.whl ./

# torch first, from the index of its CPU builds; torchrec last and alone, because it would
# pull in the CUDA fbgemm-gpu, which shares files with fbgemm-gpu-cpu.
RUN pip install --no-deps -c constraints.txt \
        --index-url https://download.pytorch.org/whl/cpu torch \
    && pip install -c constraints.txt "$(ls dlrm-*.whl)[cpu]" \
    && pip install --no-deps -c constraints.txt torchrec \
    && dlrm doctor

# By its number, which Kubernetes asks for.
RUN useradd --create-home --uid 1000 dlrm
USER 1000
WORKDIR /home/dlrm
ENTRYPOINT ["dlrm"]
CMD ["--help"]
