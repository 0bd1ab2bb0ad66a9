"""Build the native kernels where torch and a C++ compiler are there; else go without.

Everything else about the package stands in pyproject.toml.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup

SOURCES = sorted(str(p) for p in Path("dlrm/kernels/csrc").glob("*.cpp"))
HEADERS = sorted(str(p) for p in Path("dlrm/kernels/csrc").glob("*.[hi]*"))
OPTIMISE = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
# OpenMP's symbols are left to the library that torch itself has loaded: linking to one
# here could bring in a second, whose threads would fight torch's for the cores.
COMPILE = [*OPTIMISE, "-fopenmp", "-g0", "-Wno-psabi"]


def without(reason: str) -> dict:
    """Say why nothing is built, and return nothing to build."""
    print(f"dlrm: installing without native kernels: {reason}.", file=sys.stderr)
    return {}


def native() -> dict:
    """Return setuptools' arguments for the library; none where it cannot be built."""
    if sys.platform != "linux":
        return without(f"they are built on Linux, not on {sys.platform}")
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return without(f"there is no C++ compiler '{compiler}'")
    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError as error:
        return without(f"torch is not in the build's environment ({error})")

    class Build(BuildExtension):
        """Install without the library where it does not compile."""

        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                # Who asks for the library alone wants to know.
                if "build_ext" in sys.argv:
                    raise
                without(f"they do not compile ({type(error).__name__})")
                self.extensions = []

    library = CppExtension(
        "dlrm.kernels._native",
        SOURCES,
        depends=HEADERS,
        extra_compile_args=COMPILE,
        extra_link_args=["-Wl,-s"],
    )
    build = Build.with_options(use_ninja=shutil.which("ninja") is not None)
    return {"ext_modules": [library], "cmdclass": {"build_ext": build}}


setup(**native())
