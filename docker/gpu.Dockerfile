# Needs the NVIDIA container toolkit to run. From the project's root:
#   python3 -m pip wheel --no-deps -w dist .
#   docker build -f docker/gpu.Dockerfile -t dlrm:gpu .
#   docker run --gpus all dlrm:gpu doctor
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /tmp/dlrm
COPY requirements/constraints.txt dist/dlrm-*.whl ./

# torch's wheels bring the CUDA libraries; the driver comes from the host.
RUN pip install -c constraints.txt "$(ls dlrm-*.whl)[gpu]"

# By its number, which Kubernetes asks for.
RUN useradd --create-home --uid 1000 dlrm
USER 1000
WORKDIR /home/dlrm
ENTRYPOINT ["dlrm"]
CMD ["--help"]
