"""Builds the CPU double of CuPy as a wheel: CuPy's own sources, from PyPI, in CuPy's own stub mode, with what this folder holds in the
place of everything that is CUDA's. Needs g++ (at run time too), x86-64 and Linux; no CUDA toolkit, no driver, nothing of NVIDIA's.

    python build.py FOLDER [JOBS]  # -> FOLDER/dist/cupy-*.whl

Every edit has to match the sources as often as it says, or the build stops.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

HERE = Path(__file__).parent
VERSION = "14.2.0"
DIGEST = "cfed725e612178cfbdbf62f4a3a598b60edecbbca718c0d4580c21a16ae4a62c"  # of cupy-14.2.0.tar.gz
TOOLS = ("Cython==3.2.9", "setuptools>=77,<83", "wheel", "numpy>=2.0,<2.6")
LEFT_OUT = ("cublas", "curand", "cusparse")
FLAGS = {"CFLAGS": "-O1 -g0 -w", "CXXFLAGS": "-O1 -g0 -w", "LDFLAGS": "-Wl,-s", "CUPY_INSTALL_NO_RPATH": "1"}


def main(folder: Path, jobs: str) -> None:
    """Build in a folder."""
    source, dist = folder / "source", folder / "dist"
    for old in (source, dist):
        shutil.rmtree(old, ignore_errors=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(folder / "venv", with_pip=True)
    os.environ.update(FLAGS, CUPY_INSTALL_USE_STUB="1", CUPY_NUM_BUILD_JOBS=jobs)
    run(python, "-m", "pip", "install", "-q", *TOOLS)
    with tarfile.open(download(folder, python)) as archive:
        archive.extractall(folder, filter="data")
    (folder / f"cupy-{VERSION}").rename(source)
    add_own_files(source)
    Patches(source).apply()
    library = source / "cupy_cpu"
    flags = ("-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-soname,libcupycpu.so", "-w")
    run("g++", *flags, "-I", source / "cupy_backends/stub", library / "runtime.cpp", "-o", library / "libcupycpu.so", "-ldl")
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", dist, source, log=folder / "build.log")
    shutil.rmtree(source)


def download(folder: Path, python: Path) -> Path:
    """CuPy's source distribution."""
    archive = folder / f"cupy-{VERSION}.tar.gz"
    if not archive.exists():
        wanted = ("--no-deps", "--no-binary", "cupy", "--no-build-isolation", f"cupy=={VERSION}")
        run(python, "-m", "pip", "download", "-q", *wanted, "-d", folder, log=folder / "download.log")
    if hashlib.sha256(archive.read_bytes()).hexdigest() != DIGEST:
        sys.exit(f"{archive} is not the file that was expected")
    return archive


def run(*command: object, log: Path | None = None) -> None:
    """Run a command; where it fails, its output is shown and the build stops."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if log is not None:
        log.write_text(done.stdout)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}")


def add_own_files(source: Path) -> None:
    """The headers in the place of CUDA's, and the package that runs kernels."""
    elsewhere = {"cupy_thrust.h": "cupy/cuda", "cupy_cub.h": "cupy/cuda", "cupy_distributions.cuh": "cupy/random"}
    for header in (HERE / "headers").iterdir():
        shutil.copy(header, source / elsewhere.get(header.name, "cupy_backends/stub"))
    shutil.copytree(HERE / "cupy_cpu", source / "cupy_cpu", ignore=shutil.ignore_patterns("__pycache__"))
    for unused in ("_cccl", "_jitify"):  # NVIDIA's open headers
        shutil.rmtree(source / "cupy/_core/include/cupy" / unused)


class Patches:
    """The edits of CuPy's sources."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def apply(self) -> None:
        """All of them."""
        self.configure_the_build()
        self.load_the_library()
        self.refuse_what_is_not_emulated()
        self.synchronise_warps()

    def replace(self, path: str, old: str, new: str, times: int = 1) -> None:
        """Replace a text that stands there so many times."""
        text = (self.source / path).read_text()
        if text.count(old) != times:
            sys.exit(f"{path}: expected {times} times {old!r}, found {text.count(old)}")
        (self.source / path).write_text(text.replace(old, new))

    def substitute(self, path: str, pattern: str, new: str, at_least: int = 1, within: str = r".*") -> None:
        """Replace what matches, in the first match of `within`."""
        text = (self.source / path).read_text()
        part = re.search(within, text, re.S)
        start, end = part.span() if part else (0, 0)
        result, count = re.subn(pattern, new, text[start:end], flags=re.S)
        if count < at_least:
            sys.exit(f"{path}: expected {at_least} times {pattern!r}, found {count}")
        (self.source / path).write_text(text[:start] + result + text[end:])

    def append(self, path: str, text: str) -> None:
        """Add to the end of a file."""
        with (self.source / path).open("a") as file:
            file.write(text)

    def configure_the_build(self) -> None:
        """The version says what it is; modules that need libraries are left out."""
        self.replace("cupy/_version.py", f"__version__ = '{VERSION}'", f"__version__ = '{VERSION}+cpu'")
        what = 'description = "CuPy: NumPy & SciPy for GPU"'
        self.replace("pyproject.toml", what, 'description = "CuPy with a CPU in the place of the GPU: for tests only, unofficial"')
        stub = "compile_time_env['CUPY_CUDA_VERSION'] = {}\n            compile_time_env['CUPY_HIP_VERSION'] = 0\n        elif ctx.use_hip"
        self.replace("install/cupy_builder/_command.py", stub.format(0), stub.format(13000))
        for name in LEFT_OUT:
            self.replace("install/cupy_builder/_features.py", f"    'cupy_backends.cuda.libs.{name}',\n", "")
        self.replace("install/cupy_builder/_features.py", "    'cupy.cuda.cufft',\n", "")
        features, unwanted = "    MODULES = ctx.features.values()\n", ("cusolver", "nccl", "cutensor", "cusparselt", "jitify")
        wanted = f"    MODULES = [m for m in ctx.features.values() if m.name not in {unwanted}]\n"
        self.replace("install/cupy_builder/cupy_setup_build.py", features, wanted)
        self.replace("setup.py", 'dependencies.append("cuda-pathfinder>=1.3.4,==1.*")', 'dependencies.append("ml_dtypes")')
        data = "package_data['cupy'] += cupy_setup_build.prepare_wheel_libs(ctx)\n"
        files = "['libcupycpu.so'] + [os.path.relpath(p, 'cupy_cpu') for p in glob.glob('cupy_cpu/include/**', recursive=True)]"
        self.replace("setup.py", data, f"{data}package_data['cupy_cpu'] = [p for p in {files} if os.path.isfile('cupy_cpu/' + p)]\n")

    def load_the_library(self) -> None:
        """libcupycpu.so in the place of the driver, the runtime and NVRTC; no other is looked for."""
        api, libraries = "cupy_backends/cuda/api", "cupy_backends/cuda/libs"
        self.append("cupy_backends/__init__.py", "\nimport cupy_cpu\ncupy_cpu.load()\n")
        cublas = "from cupy_cpu.cublas import *  # NOQA\nfrom cupy_cpu.cublas import __getattr__  # NOQA\n"
        (self.source / libraries / "cublas.py").write_text(cublas)
        driver = f"{api}/_driver_extern.pxi"
        self.replace(driver, "libname = 'libcuda.so.1'", "import cupy_cpu\n            libname = cupy_cpu.LIB")
        self.replace(driver, "cdef str prefix = 'cu'", "cdef str prefix = 'cupycpu_cu'")
        self.replace(f"{api}/_runtime_softlink.pxi", "cdef str prefix = 'cuda'", "cdef str prefix = 'cupycpu_cuda'")
        self.replace(f"{libraries}/_cnvrtc.pxi", "cdef str prefix = 'nvrtc'", "cdef str prefix = 'cupycpu_nvrtc'")
        self.replace("cupy/cuda/compiler.py", "from cupy_backends.cuda.libs import nvrtc\n", "from cupy_cpu import nvrtc\n")
        guess = "    if os.path.exists('/usr/local/cuda'):\n        return '/usr/local/cuda'\n"
        self.replace("cupy/_environment.py", guess, "")
        found = 0
        for path in [p for d in ("cupy", "cupy_backends", "cupyx") for p in (self.source / d).rglob("*.p[yx]*")]:
            text = path.read_text()
            new = re.sub(r"from cuda(?=\.pathfinder import| import pathfinder)", "from cupy_cpu", text)
            found += new != text
            path.write_text(new)
        if found < 8:
            sys.exit(f"cuda.pathfinder is imported by {found} files only")
        pool = "cuda.set_allocator(_default_memory_pool.malloc)\n"  # it would give memory that was written to before
        self.replace("cupy/__init__.py", pool, "import cupy_cpu as _cupy_cpu\ncuda.set_allocator(_cupy_cpu.allocate)\n")

    def refuse_what_is_not_emulated(self) -> None:
        """By an error, at once."""
        refusal = '    raise NotImplementedError("{} is not emulated")\n'
        self.substitute("cupy/cuda/compiler.py", r"(def compile_using_nvcc\(.*?\):\n)", r"\1" + refusal.format("nvcc"))
        declarations = r"cdef extern from 'cupy_cub.h' nogil:.*?# Build-time version"
        self.substitute("cupy/cuda/cub.pyx", r"(cub_device_\w+\([^)]*\))", r"\1 except +", at_least=10, within=declarations)
        accelerator = "    if isinstance(accelerator, int):\n        return accelerator\n"
        self.replace("cupy/_core/_accelerator.pyx", accelerator, refusal.format("an accelerator"))
        launch = r"(\ncdef void _launch_dist\(bit_generator, func, out, args\) except\*:\n)"
        self.substitute("cupy/random/_generator_api.pyx", launch, r"\1" + refusal.format("cupy.random"))
        imported = r"(        from cupy\.random\._generator_api import init_curand\n)"
        self.substitute("cupy/random/_bit_generator.pyx", imported, "    " + refusal.format("cupy.random") + r"\1")

    def synchronise_warps(self) -> None:
        """CuPy's kernels of partitions count on lanes that move in lockstep, which has to be said here."""
        path = "cupy/_core/_routines_sorting.pyx"
        self.substitute(path, r"(bitonic_sort_step< T >\([^;]*\);)", r"\1 __syncwarp();", at_least=4)
        self.substitute(path, r"(__device__ void (?:bitonic_sort|merge)\([^{]*\{)", r"\1 __syncwarp();", at_least=4)
        self.substitute(path, r"(\n *// After merge step,)", r"\n __syncwarp();\1", at_least=2)


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True, exist_ok=True)
    main(place, sys.argv[2] if len(sys.argv) > 2 else "1")
