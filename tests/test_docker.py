"""Images and job templates say what the command and torchrun understand."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import dlrm
from dlrm.config.compose import compose

ROOT = Path(dlrm.__file__).parent.parent
DOCKER = ROOT / "docker"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DOCKER / name).read_text()))


def torchrun_of(line: list[str]) -> tuple[Any, list[str]]:
    """Return torchrun's options and what it runs; options it lacks end the test."""
    from torch.distributed.run import get_args_parser

    assert line[0] == "torchrun"
    options = get_args_parser().parse_args(line[1:])
    assert (options.module, options.training_script) == (True, "dlrm")
    return options, options.training_script_args


def check_train(line: list[str]) -> None:
    """Check that a job that is started again goes on with its run."""
    assert line[0] == "train"
    config = compose(line[1:])
    assert config.resume
    assert config.run_name


def test_the_two_nodes_of_compose_make_one_job():
    (content,) = documents("compose.yaml")
    services = content["services"]
    for name in ("node-0", "node-1"):
        node = services[name]
        assert node["extends"] == "train"
        assert node["hostname"] == name
        options, command = torchrun_of([*node["entrypoint"], *node["command"]])
        assert (options.nnodes, options.nproc_per_node) == ("2", "1")
        assert options.rdzv_endpoint.partition(":")[0] == "node-0"
        check_train(command)
    assert services["node-0"]["entrypoint"] == services["node-1"]["entrypoint"]
    # Settings that a service inherits by extends are not lost beside its own.
    assert services["node-0"]["environment"]["HOME"] == "/workspace"


def test_compose_builds_from_files_that_exist():
    (content,) = documents("compose.yaml")
    for service in content["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, dict[str, Any]]:
    return {part["kind"]: part for part in documents("kubernetes.yaml")}


def test_kubernetes_pods_find_one_another(kubernetes: dict[str, dict[str, Any]]):
    service, job = kubernetes["Service"], kubernetes["Job"]["spec"]
    name = kubernetes["Job"]["metadata"]["name"]
    template = job["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"job-name": name}
    assert template["subdomain"] == service["metadata"]["name"]
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    # podFailurePolicy takes no other.
    assert template["restartPolicy"] == "Never"


def test_kubernetes_starts_torchrun_on_every_pod(
    kubernetes: dict[str, dict[str, Any]],
):
    job = kubernetes["Job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    script = container["args"][0]
    assert script.startswith("exec ")
    words = shlex.split(script.removeprefix("exec ").replace("\\\n", " "))
    options, command = torchrun_of(words)
    assert options.nnodes == str(job["completions"])
    host, port = options.rdzv_endpoint.split(":")
    name, service = kubernetes["Job"]["metadata"]["name"], kubernetes["Service"]
    assert host == f"{name}-0.{service['metadata']['name']}"
    assert int(port) == service["spec"]["ports"][0]["port"]
    check_train(command)


def test_kubernetes_volumes_are_claimed(kubernetes: dict[str, dict[str, Any]]):
    template = kubernetes["Job"]["spec"]["template"]["spec"]
    claims = {
        volume["name"]: volume.get("persistentVolumeClaim", {}).get("claimName")
        for volume in template["volumes"]
    }
    (container,) = template["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == set(claims)
    claim = kubernetes["PersistentVolumeClaim"]
    assert claims["workspace"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert mounted["workspace"] == container["workingDir"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_starts_one_task_a_rank(tmp_path: Path):
    script = DOCKER / "slurm.sbatch"
    said = tmp_path / "said"
    (tmp_path / "srun").write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" > {said}\n')
    (tmp_path / "srun").chmod(0o755)
    subprocess.run(
        ["bash", str(script), "data=synthetic", "output=my runs"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NAME": "mine"},
        check=True,
    )
    options, command, *line = said.read_text().splitlines()
    assert (options, command) == ("--kill-on-bad-exit=1", "dlrm")
    check_train(line)
    config = compose(line[1:])
    assert (config.run_name, config.output) == ("mine", "my runs")


def test_the_slurm_script_lets_ranks_save_before_the_time_is_up():
    text = (DOCKER / "slurm.sbatch").read_text()
    given = re.findall(r"^#SBATCH (--[a-z-]+(?:=\S+)?)$", text, re.MULTILINE)
    assert "--signal=TERM@300" in given
    assert "--requeue" in given


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_images_install_the_wheel_with_tested_versions(name: str):
    text = (DOCKER / f"{name}.Dockerfile").read_text()
    assert "COPY requirements/constraints.txt dist/dlrm-*.whl ./" in text
    assert f"[{name}]" in text
    assert "constraints.txt" in text
    # Kubernetes' runAsNonRoot knows users by number alone.
    assert re.search(r"^USER \d+$", text, re.MULTILINE)
