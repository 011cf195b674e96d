"""Takes NVRTC's place in CuPy's compiler: g++ compiles the source of a kernel behind `emulator.h` to a shared object.

CuPy's own cache on the disk keeps it; a second one, by content, is for modules that CuPy compiles again.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from . import INCLUDE, NotEmulatedError, log

COMMAND = ["g++", "-O1", "-shared", "-fPIC", "-w", "-fno-strict-aliasing", "-ffp-contract=off"]

_KERNEL = re.compile(r'(extern\s+"C"\s+)?(?:static\s+)?__global__\s+(?:__launch_bounds__\s*\([^)]*\)\s*)?void\s+(\w+)\s*\(')
_BARRIER = re.compile(r"__sync(threads|warp)|__shfl")
_DYNAMIC_SHARED = re.compile(r"extern\s+__shared__\s+((?:__align__\s*\(\s*\d+\s*\)\s*)?)([\w: ]+?)\s+(\w+)\s*\[\s*\]\s*;")
_NOT_EMULATED = {
    r"#\s*include\s*<(cub/|thrust/(?!detail/config/namespace\.h)|cooperative_groups|curand|mma\.h|cuda/(?!std/))": "this header",
    r"\basm\s*(?:volatile)?\s*\(": "inline assembly",
    r"\b(tex1D|tex2D|tex3D|surf2D\w+)\s*<": "a texture",
    r"<<<": "a launch by a kernel",
}
_IGNORED = ("-arch=", "--gpu-architecture", "-ftz=", "--device-as-default-execution-space", "-default-device", "--pch", "-rdc=false")
_THUNK = """
static void thunk_{symbol}(void** arguments) {{ emulator::call(&{kernel}, arguments); }}
extern "C" __attribute__((visibility("default")))
int cupycpu_launch_{symbol}(void** arguments, const unsigned* grid, const unsigned* block, unsigned shared, char* text, size_t n) {{
    return emulator::launch(thunk_{symbol}, arguments, grid, block, shared, {has_barriers}, text, n);
}}
"""


class NVRTCError(RuntimeError):
    """A source that cannot be compiled."""


class _Program:
    def __init__(self, source: str) -> None:
        self.source, self.expressions, self.names, self.binary, self.log = source, [], {}, b"", ""


_programs: dict[int, _Program] = {}


def getVersion() -> tuple[int, int]:
    return 13, 0


def getSupportedArchs() -> tuple[int, ...]:
    return (90,)


def createProgram(source: str, name: str, headers: Sequence[str], include_names: Sequence[str]) -> int:
    if len(headers):
        raise NotEmulatedError("headers in memory are not emulated")
    program = _Program(source)
    _programs[id(program)] = program
    return id(program)


def destroyProgram(number: int) -> None:
    _programs.pop(number, None)


def addNameExpression(number: int, expression: str) -> None:
    _programs[number].expressions.append(expression)


def getLoweredName(number: int, expression: str) -> str:
    return str(_programs[number].names[expression])


def getProgramLog(number: int) -> str:
    return _programs[number].log


def getCUBIN(number: int) -> bytes:
    return _programs[number].binary


getPTX = getCUBIN


def getLTOIR(number: int) -> bytes:
    raise NotEmulatedError("linking at run time is not emulated")


def compileProgram(number: int, options: Sequence[str | bytes] = ()) -> None:
    program = _programs[number]
    if not program.source.strip():  # CuPy asks for the compiler's version
        program.binary = f"// {_fingerprint()}\n".encode()
        return
    try:
        program.binary = _compiled(program, [o.decode() if isinstance(o, bytes) else o for o in options])
    except NVRTCError as e:
        program.log = str(e)
        raise


def _compiled(program: _Program, options: list[str]) -> bytes:
    """A shared object, behind the word and the length that the runtime looks for."""
    code = re.sub(r"//[^\n]*|/\*.*?\*/", " ", program.source, flags=re.S)
    for pattern, what in _NOT_EMULATED.items():
        if re.search(pattern, code):
            raise NVRTCError(f"{what} is not emulated: {pattern}")
    standard, flags = _flags(options)
    text = _with_thunks(program, code)
    is_plain = not any(flag.startswith(("-D", "-U")) for flag in flags)
    text = f'#include "{"precompiled.h" if is_plain else "emulator.h"}"\n#line 1 "kernel.cu"\n{text}'
    key = hashlib.sha1("\0".join([_fingerprint(), standard, *flags, text]).encode()).hexdigest()
    stored = _cache() / f"kernel_{key}.so"
    if stored.exists():
        log["cache_hits"] += 1
    else:
        include = ["-I", str(_precompiled(standard))] if is_plain else []
        with tempfile.TemporaryDirectory() as folder:
            source, result = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
            source.write_text(text)
            _run([*COMMAND, standard, *include, "-I", INCLUDE, *flags, str(source), "-o", str(result)])
            _store(result.read_bytes(), stored)
        log["compiled"] += 1
    binary = stored.read_bytes()
    return b"CUPYCPU2" + struct.pack("<Q", len(binary)) + binary


def _flags(options: list[str]) -> tuple[str, list[str]]:
    """The standard, and what else g++ is told."""
    standard, flags, rest = "-std=c++17", [], iter(options)
    for option in rest:
        if re.match(r"--?std=", option):
            standard = "-std=" + option.partition("=")[2].replace("03", "11")
        elif re.match(r"-[IDU]", option):
            flags.append(option if len(option) > 2 else option + next(rest))
        elif option.startswith(("--include-path=", "--define-macro=")):
            flags.append(("-I" if option.startswith("--i") else "-D") + option.partition("=")[2])
        elif not option.startswith(_IGNORED):
            raise NVRTCError(f"the option {option!r} is not emulated")
    return standard, [flag for flag in flags if "/_cccl/" not in flag]


def _with_thunks(program: _Program, code: str) -> str:
    """The source, with a function for every kernel by which the runtime calls it."""
    block = re.search(r'extern\s+"C"\s*\{', code)  # only kernels with C names are found by them
    is_template = re.compile(r"template\s*<[^;{}]*>\s*$")
    found = [
        m.group(2)
        for m in _KERNEL.finditer(code)
        if m.group(1) or (block and m.start() > block.start() and not is_template.search(code[: m.start()]))
    ]

    def renamed(m: re.Match[str]) -> str:  # an overload of the same name does not get in the way
        return m.group(0) if m.group(2) not in found else f"{m.group(0)[: m.start(2) - m.start()]}kernel_{m.group(2)}("

    program.names = {expression: f"expression_{i}" for i, expression in enumerate(program.expressions)}
    kernels = {**{name: f"kernel_{name}" for name in found}, **{symbol: expression for expression, symbol in program.names.items()}}
    text = _KERNEL.sub(renamed, program.source)
    text = _DYNAMIC_SHARED.sub(r"\2* \3 = reinterpret_cast<\2*>(emulator::shared_memory);", text)
    has_barriers = "true" if _BARRIER.search(code) else "false"
    thunks = [_THUNK.format(symbol=symbol, kernel=kernel, has_barriers=has_barriers) for symbol, kernel in kernels.items()]
    return text + '\n#line 1 "thunks"' + "".join(thunks)


@cache
def _fingerprint() -> str:
    """Of everything but the source that decides what comes out."""
    digest = hashlib.sha1(repr(COMMAND).encode())
    digest.update(subprocess.run([COMMAND[0], "--version"], capture_output=True, check=True).stdout)
    for path in sorted(p for p in [Path(__file__), *Path(INCLUDE).rglob("*")] if p.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache() -> Path:
    folder = Path(os.environ["CUPY_CACHE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def _precompiled(standard: str) -> Path:
    """The folder of the emulator's and CuPy's headers in one that g++ has read."""
    from cupy._core import core

    headers = core._get_header_dir_path()
    key = hashlib.sha1((_fingerprint() + standard + headers + str(os.path.getmtime(headers))).encode()).hexdigest()
    folder = _cache() / f"headers_{key[:16]}"
    if not (folder / "precompiled.h.gch").exists():
        folder.mkdir(exist_ok=True)
        includes = ['#include "emulator.h"\n', *[f"#include <{h}>\n" for h in core._cupy_header_list[:4]]]
        source, result = folder / "precompiled.h", folder / f"{os.getpid()}.gch"
        source.write_text("".join(includes))
        flags = [flag for flag in COMMAND if flag != "-shared"]
        _run([*flags, standard, "-I", INCLUDE, "-I", headers, "-x", "c++-header", str(source), "-o", str(result)])
        os.replace(result, folder / "precompiled.h.gch")
    return folder


def _store(binary: bytes, path: Path) -> None:
    """Write a file that no other process sees half written."""
    half = path.with_suffix(f".{os.getpid()}")
    half.write_bytes(binary)
    os.replace(half, path)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NVRTCError(f"g++ refused the kernel\n{done.stderr[:6000]}")
