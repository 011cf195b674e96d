"""What may import what, and what importing the package costs.

- `import arrayloss` imports no array library              test_importing_the_package_imports_no_array_library
- losses and core know no array library                    test_only_adapters_import_array_libraries
- losses know no adapter; adapters know no loss            test_layers
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arrayloss

PACKAGE = Path(arrayloss.__file__).parent
LIBRARIES = {"numpy", "torch", "jax", "jaxlib", "cupy", "cupyx", "dask", "scipy", "tensorflow", "keras", "array_api_strict"}
LAYERS = [p for folder in ("core", "losses", "adapters") for p in sorted((PACKAGE / folder).glob("*.py"))]


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it."""
    package = ("arrayloss", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{a.name}" for a in node.names)


def test_importing_the_package_imports_no_array_library() -> None:
    code = f"import sys, arrayloss; print(sorted({{m.partition('.')[0] for m in sys.modules}} & set({sorted(LIBRARIES)!r})))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_one_library_is_imported_for_its_own_arrays_only() -> None:
    code = (
        "import sys, numpy, arrayloss; print(arrayloss.squared_error(numpy.ones(2), numpy.zeros(2)));"
        "print(sorted({'torch', 'jax', 'cupy', 'dask', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["1.0", "[]"]


@pytest.mark.parametrize("path", LAYERS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    names = set(imported(path))
    roots = {n.partition(".")[0] for n in names}
    own = {n for n in names if n.startswith("arrayloss.")}
    folder = path.parent.name
    allowed = roots & LIBRARIES
    if folder == "adapters":  # <library>.py and its companions <library>_*.py
        library = path.stem.partition("_")[0]
        allowed -= {"numpy", {"cuda": "cupy"}.get(library, library), "cupyx" if library in ("cupy", "cuda") else ""}
        assert not any(n.startswith("arrayloss.losses") for n in own)
    assert not allowed
    if folder == "losses":
        assert not any(n.startswith(("arrayloss.adapters", "arrayloss.consistency")) for n in own)
    if folder == "core":
        assert not any(n.startswith(("arrayloss.losses", "arrayloss.consistency")) for n in own)
        assert {n for n in own if n.startswith("arrayloss.adapters")} == set() or path.stem == "namespace"


def test_no_module_needs_numpy_but_numpys_and_jaxs() -> None:
    """JAX cannot be without NumPy; the other adapters can."""
    users = {p.name for p in LAYERS if "numpy" in {n.partition(".")[0] for n in imported(p)}}
    assert all(name.startswith(("numpy", "jax", "torch_native", "cuda", "cupy")) for name in users), users
