"""Build the native kernels where torch and a C++ compiler are there; else go without.

Everything else about the package stands in pyproject.toml.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = sorted(str(p) for p in Path("dlrm/kernels/csrc").glob("*.cpp"))
HEADERS = sorted(str(p) for p in Path("dlrm/kernels/csrc").glob("*.[hi]*"))
TEXT_SOURCES = sorted(str(p) for p in Path("dlrm/kernels/csrc_text").glob("*.cpp"))
TEXT_HEADERS = sorted(str(p) for p in Path("dlrm/kernels/csrc_text").glob("*.h"))
OPTIMISE = ["-O3", "-fno-math-errno", "-fno-trapping-math"]
# OpenMP's symbols are left to the library that torch itself has loaded: linking to one
# here could bring in a second, whose threads would fight torch's for the cores.
COMPILE = [*OPTIMISE, "-fopenmp", "-g0", "-Wno-psabi"]


def without(reason: str) -> dict:
    """Say why nothing is built, and return nothing to build."""
    print(f"dlrm: installing without native kernels: {reason}.", file=sys.stderr)
    return {}


def text_library() -> Extension:
    """Return what reads delimited text, which needs no torch."""
    return Extension(
        "dlrm.kernels._text",
        TEXT_SOURCES,
        depends=TEXT_HEADERS,
        language="c++",
        extra_compile_args=["-O3", "-std=c++17", "-g0"],
        extra_link_args=["-Wl,-s"],
    )


def torch_library() -> Extension:
    """Return the operators of torch."""
    from torch.utils.cpp_extension import CppExtension

    return CppExtension(
        "dlrm.kernels._native",
        SOURCES,
        depends=HEADERS,
        extra_compile_args=COMPILE,
        extra_link_args=["-Wl,-s"],
    )


def forgiving(build_ext: type) -> type:
    """Return the build that goes without libraries that do not compile."""

    class Build(build_ext):
        def run(self) -> None:
            try:
                super().run()
            except Exception as error:
                # Who asks for the libraries alone wants to know.
                if "build_ext" in sys.argv:
                    raise
                without(f"they do not compile ({type(error).__name__})")
                self.extensions = []

    return Build


def native() -> dict:
    """Return setuptools' arguments for the libraries; none where none can be built."""
    if sys.platform != "linux":
        return without(f"they are built on Linux, not on {sys.platform}")
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return without(f"there is no C++ compiler '{compiler}'")
    try:
        from torch.utils.cpp_extension import BuildExtension
    except ImportError as error:
        without(f"those of training need torch in the build's environment ({error})")
        build = forgiving(build_ext)
        return {"ext_modules": [text_library()], "cmdclass": {"build_ext": build}}
    build = forgiving(BuildExtension).with_options(
        use_ninja=shutil.which("ninja") is not None
    )
    libraries = [torch_library(), text_library()]
    return {"ext_modules": libraries, "cmdclass": {"build_ext": build}}


setup(**native())
