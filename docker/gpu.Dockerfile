# Needs the NVIDIA container toolkit to run. From the project's root:
#   python3 -m pip wheel --no-deps -w dist .
#   docker build -f docker/gpu.Dockerfile -t dlrm:gpu .
#   docker run --gpus all dlrm:gpu doctor
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/constraints.txt dist/dlrm-*.whl /tmp/dlrm/

# torch's wheels bring the CUDA libraries; the driver comes from the host.
RUN cd /tmp/dlrm && pip install -c constraints.txt "$(ls dlrm-*.whl)[gpu]"

RUN useradd --create-home dlrm
USER dlrm
WORKDIR /home/dlrm
ENTRYPOINT ["dlrm"]
CMD ["--help"]
