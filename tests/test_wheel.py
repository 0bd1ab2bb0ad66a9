"""The built wheel runs from any directory, presets included."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import dlrm

ROOT = Path(dlrm.__file__).parent.parent
pytestmark = pytest.mark.slow

COMPOSE_ALL = """
from pathlib import Path
import dlrm
from dlrm.config.compose import compose, preset_groups, preset_names, presets_folder
assert "site-packages" in dlrm.__file__, dlrm.__file__
assert "site-packages" in str(presets_folder()), presets_folder()
names = [f"{group}={name}" for group in preset_groups() for name in preset_names(group)]
for name in names:
    compose([name])
print(len(names))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=cwd,
        # Native kernels take their time to compile, and are not what is tested here.
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "CXX": "no-compiler"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel, install it alone into a fresh environment, return its folder."""
    folder = tmp_path_factory.mktemp("wheel")
    # Built from a copy: setuptools leaves build/ and an egg-info beside the sources.
    source = folder / "source"
    source.mkdir()
    files = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
    for name in ("dlrm", "conf", *files):
        run("cp", "-r", ROOT / name, source, cwd=folder)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    wheel = ("wheel", "--no-deps", "--no-build-isolation", "-q", "-w", folder, source)
    run(*pip, *wheel, cwd=folder)
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    target = Path(
        run(
            python,
            "-c",
            "import sysconfig; print(sysconfig.get_paths()['purelib'])",
            cwd=folder,
        ).strip()
    )
    (built,) = folder.glob("dlrm-*.whl")
    install = ("install", "-q", "--no-deps", "--target", target, built)
    run(*pip, *install, cwd=folder)
    # The packages that it depends on are borrowed from this environment.
    (target / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return environment


def test_the_command_line_of_the_wheel_lists_commands(installed: Path, tmp_path: Path):
    python = installed / "bin" / "python"
    text = run(python, "-m", "dlrm", "--help", cwd=tmp_path)
    assert "prepare" in text
    assert dlrm.__version__ in run(python, "-m", "dlrm", "--version", cwd=tmp_path)


def test_every_preset_of_the_wheel_composes(installed: Path, tmp_path: Path):
    count = run(installed / "bin" / "python", "-c", COMPOSE_ALL, cwd=tmp_path)
    presets = list((ROOT / "conf").glob("*/*.yaml"))
    assert int(count) == len(presets) > 0


def test_a_bad_setting_is_refused_by_the_wheel(installed: Path, tmp_path: Path):
    done = subprocess.run(
        [installed / "bin" / "python", "-m", "dlrm", "prepare", "trainer.sede=1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean trainer.seed?" in done.stderr
