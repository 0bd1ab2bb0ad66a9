"""The doctor finds what is broken and prints the line that mends it."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dlrm.commands import doctor, probe
from dlrm.commands.doctor import Finding, check_import, check_pair, check_python, main
from dlrm.config.errors import ConfigError

BROKEN = "raise ImportError('libfoo.so.1: cannot open shared object file')\n"


def make_package(folder: Path, name: str, *, body: str, version: str) -> None:
    """Write a package, with the metadata of an installed distribution."""
    module = name.replace("-cpu", "").replace("-", "_")
    (folder / module).mkdir(exist_ok=True)
    (folder / module / "__init__.py").write_text(body)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(text)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that comes first on every path, in this process and in probes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_a_broken_package_is_named_with_its_reason_and_a_line(fakes: Path):
    make_package(fakes, "torchrec", body=BROKEN, version="1.8.0")
    finding = check_import("torchrec", "torchrec", doctor.install_line(False))
    assert not finding.ok
    assert "1.8.0 fails: ImportError: libfoo.so.1" in finding.what
    assert "--force-reinstall --no-deps torchrec==1.8.0" in finding.mend


def test_a_missing_package_is_named_with_a_line():
    finding = check_import("nosuchthing", "nosuchthing", "pip install nosuchthing")
    expected = "pip install nosuchthing"
    assert finding == Finding(False, "nosuchthing", "is not installed", expected)


def test_a_sound_package_is_ok_with_its_version(fakes: Path):
    make_package(fakes, "soundthing", body="", version="2.5")
    finding = check_import("soundthing", "soundthing", "")
    assert finding == Finding(True, "soundthing", "2.5")


def test_both_builds_of_fbgemm_are_refused(fakes: Path):
    for name in ("fbgemm-gpu", "fbgemm-gpu-cpu"):
        make_package(fakes, name, body="", version="1.8.0")
    finding = doctor.check_fbgemm_twice()
    assert not finding.ok
    assert "uninstall -y fbgemm-gpu fbgemm-gpu-cpu" in finding.mend


def test_one_build_of_fbgemm_is_right():
    assert doctor.check_fbgemm_twice().ok


@pytest.mark.parametrize(
    ("versions", "ok"),
    [
        (("2.13.0", "1.8.0", "1.8.0"), True),
        (("2.13.1", "1.8.0", "1.8.0"), True),
        (("2.11.0", "1.6.1", "1.6.0"), True),
        (("2.11.0", "1.8.0", "1.8.0"), False),
        (("2.13.0", "1.6.1", "1.8.0"), False),
        (("2.13.0", None, "1.8.0"), False),
        ((None, None, None), False),
    ],
)
@pytest.mark.parametrize("has_gpu", [False, True])
def test_only_versions_that_belong_together_are_sound(versions, ok, has_gpu):
    finding = check_pair(*versions, has_gpu=has_gpu)
    assert finding.ok is ok
    if not ok:
        assert "torch==2.13.0" in finding.mend
        assert ("fbgemm-gpu-cpu==1.8.0" in finding.mend) is not has_gpu


@pytest.mark.parametrize(
    ("version", "ok"),
    [((3, 9), False), ((3, 10), True), ((3, 14), True), ((3, 15), False)],
)
def test_python_is_supported_from_3_10_to_3_14(version: tuple[int, int], ok: bool):
    finding = check_python(version)
    assert finding.ok is ok
    assert bool(finding.mend) is not ok


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    assert doctor.check_writable(tmp_path).ok
    finding = doctor.check_writable(tmp_path / "nosuch")
    assert not finding.ok
    assert str(tmp_path / "nosuch") in finding.what


def test_a_gpu_with_cpu_builds_is_a_fault(fakes: Path):
    make_package(fakes, "torch", body="", version="2.13.0+cpu")
    finding = doctor.check_cuda(has_gpu=True)
    assert not finding.ok
    assert "CPU builds" in finding.what
    assert "fbgemm-gpu==1.8.0" in finding.mend
    assert doctor.check_cuda(has_gpu=False).ok


def test_a_gpu_that_torch_cannot_see_is_a_fault(
    fakes: Path, monkeypatch: pytest.MonkeyPatch
):
    make_package(fakes, "torch", body=BROKEN, version="2.13.0")
    monkeypatch.setattr(doctor, "installed_version", lambda name: None)
    finding = doctor.check_cuda(has_gpu=True)
    assert not finding.ok
    assert "torch sees no GPU: ImportError" in finding.what


@pytest.mark.parametrize(
    ("output", "present"),
    [("GPU 0: NVIDIA H200 (UUID: x)", True), ("No devices", False)],
)
def test_a_gpu_is_found_through_nvidia_smi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, present: bool
):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{output}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert doctor.nvidia_gpu_present() is present


def test_a_probe_that_hangs_or_is_killed_is_told_apart():
    hangs = probe.run_python("import time; time.sleep(60)", timeout=0.2)
    assert (hangs.ok, hangs.output) == (False, "no answer within 0.2 s")
    killed = probe.run_python("import os; os.kill(os.getpid(), 9)")
    assert not killed.ok
    assert "killed by signal 9" in killed.output


def test_settings_are_refused():
    with pytest.raises(ConfigError, match="takes no settings"):
        main(["trainer.seed=1"])


def test_the_exit_code_and_the_last_line_say_whether_all_is_sound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    good, bad = (
        Finding(True, "torch", "2.13.0"),
        Finding(False, "torch", "gone", "pip x"),
    )
    monkeypatch.setattr(doctor, "examine", lambda: iter([good]))
    assert main([]) == 0
    assert capsys.readouterr().out.endswith("This installation is sound.\n")
    monkeypatch.setattr(doctor, "examine", lambda: iter([good, bad]))
    assert main([]) == 1
    text = capsys.readouterr().out
    assert "FAIL  torch          gone\n      mend: pip x\n" in text
    assert "1 to mend" in text


def test_this_installation_is_examined_without_importing_torch_here(
    monkeypatch: pytest.MonkeyPatch,
):
    # The probes themselves are slow imports in processes of their own.
    monkeypatch.setattr(doctor, "try_import", lambda module: probe.Probe(True, ""))
    monkeypatch.setattr(doctor, "run_python", lambda code: probe.Probe(True, "ok"))
    monkeypatch.setattr(doctor, "nvidia_gpu_present", lambda: False)
    findings = list(doctor.examine())
    assert {"python", "versions", "torch", "torchrec", "smoke run"} <= {
        finding.subject for finding in findings
    }
    assert [finding for finding in findings if not finding.ok] == []


@pytest.mark.slow
def test_the_doctor_runs_where_torch_and_torchrec_cannot_be_imported(tmp_path: Path):
    for name in ("torch", "torchrec", "omegaconf", "hydra"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(BROKEN)
    paths = [str(tmp_path), *sys.path[1:], sysconfig.get_paths()["purelib"]]
    done = subprocess.run(
        [sys.executable, "-m", "dlrm", "doctor"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ":".join(path for path in paths if path),
        },
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for name in ("torch", "torchrec", "omegaconf", "hydra-core", "smoke run"):
        assert f"FAIL  {name:<14}" in done.stdout
    assert done.stdout.count("mend: ") >= 5


@pytest.mark.slow
def test_this_installation_is_sound():
    done = subprocess.run(
        [sys.executable, "-m", "dlrm", "doctor"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
