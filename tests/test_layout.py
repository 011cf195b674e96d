"""What may import what, what importing the package costs, how large its files are. The imports are read, not run."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import arrayloss
from arrayloss.frontend.loss import REGISTRY

from .helpers import WHOLE_GRAPHS

PACKAGE = Path(arrayloss.__file__).parent
FILES = {".".join(("arrayloss", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p for p in PACKAGE.rglob("*.py")}
FLOORS = ["core", "engine", "adapters", "frontend", "losses"]  # from the ground up
LIBRARIES = {"numpy", "torch", "jax", "jaxlib", "cupy", "cupyx", "dask", "scipy", "ml_dtypes", "tensorflow", "array_api_strict"}


def imports_of(module: str) -> Iterator[str]:
    """The full names of all modules that a module imports, wherever in it; not those for type checkers only."""
    path = FILES[module]
    tree, package = ast.parse(path.read_text()), module.split(".")[: None if path.name == "__init__.py" else -1]
    for_types = {id(n) for i in ast.walk(tree) if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.unparse(i.test) for n in ast.walk(i)}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*(package[: len(package) - node.level + 1] if node.level else ()), *((node.module,) if node.module else ())))
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in FILES else base for a in node.names)


IMPORTS = {module: set(imports_of(module)) for module in FILES}


def floor_of(module: str) -> int | None:
    """The height of a module's floor; None for what stands beside the house."""
    name = module.split(".")[1] if module.startswith("arrayloss.") else ""
    return FLOORS.index(name) if name in FLOORS else None


def libraries(module: str) -> set[str]:
    """The array libraries that a module imports."""
    return {name.partition(".")[0] for name in IMPORTS[module]} & LIBRARIES


def test_no_module_imports_itself_by_way_of_others() -> None:
    """A circle makes the order of imports matter, and everything in it one piece."""
    for start in FILES:
        seen, todo = set(), [start]
        while todo:
            todo += [m for m in IMPORTS[todo.pop()] if m in FILES and not (m in seen or seen.add(m))]
        assert start not in seen


def test_no_floor_imports_a_higher_one() -> None:
    up = [(a, b) for a in FILES for b in IMPORTS[a] if None not in (floor_of(a), floor_of(b)) and floor_of(a) < floor_of(b)]
    assert not up


@pytest.mark.parametrize("module", [m for m in FILES if m.split(".")[1:2] in (["core"], ["losses"], ["frontend"])])
def test_core_frontend_and_losses_know_no_array_library(module: str) -> None:
    assert not libraries(module)


def test_adapters_know_their_own_library_only() -> None:
    """`torch_host.py` and `torch_device.py` lend tensors to the engines of NumPy and CuPy, and JAX cannot be without NumPy."""
    for module in (m for m in FILES if m.startswith("arrayloss.adapters.")):
        name = module.rpartition(".")[2]
        own = {"jax": {"jax", "numpy"}, "torch_host": {"torch", "numpy"}, "torch_device": {"torch", "cupy"}}.get(
            name, {name.partition("_")[0]}
        )
        assert libraries(module) <= own | ({"cupyx"} if name == "cupy" else set()), module


def test_only_dispatch_names_adapters() -> None:
    """Beside an adapter's own companions."""
    for module in FILES:
        named = {m.rpartition(".")[2] for m in IMPORTS[module] if m.startswith("arrayloss.adapters.")} - {"base", "dispatch"}
        if module.startswith("arrayloss.adapters."):
            named -= {"numpy"} if module.endswith("torch_host") else set()
            named = {n for n in named if n.partition("_")[0] != module.rpartition(".")[2].partition("_")[0]}
        assert not named or module == "arrayloss.adapters.dispatch", module


def test_losses_use_the_frontend_and_the_core_alone() -> None:
    """No loss asks which library it runs on."""
    for module in (m for m in FILES if m.startswith("arrayloss.losses.")):
        assert {m.split(".")[1] for m in IMPORTS[module] if m.startswith("arrayloss.")} <= {"core", "frontend", "losses"}, module


def test_sizes_of_files() -> None:
    """A file is a topic read in one sitting."""
    lines = {m: len(p.read_text().splitlines()) for m, p in FILES.items()}
    limits = (
        dict.fromkeys(FILES, 400)
        | dict.fromkeys([m for m in FILES if m.startswith("arrayloss.adapters.")], 180)
        | {"arrayloss.adapters.torch": 320}
    )
    assert {m: n for m, n in lines.items() if n > limits[m]} == {}


def run(code: str) -> str:
    """What a program prints in a process of its own, in which a warning is an error."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_the_package_imports_no_array_library() -> None:
    """Nothing heavier than array_api_compat."""
    loaded = run(
        "import sys; before = set(sys.modules); import arrayloss; print(*{m.partition('.')[0] for m in set(sys.modules) - before})"
    )
    assert set(loaded.split()) & LIBRARIES == set()
    assert {m for m in loaded.split() if m not in sys.stdlib_module_names} <= {"arrayloss", "array_api_compat", "__mp_main__"}


def test_a_library_is_imported_for_its_own_arrays_only() -> None:
    code = (
        "import sys, numpy, arrayloss; print(arrayloss.squared_error(numpy.ones(2), numpy.zeros(2)));"
        "print(sorted({'torch', 'jax', 'cupy', 'dask', 'scipy'} & set(sys.modules)))"
    )
    assert run(code).split("\n") == ["1.0", "[]"]


def test_public_names() -> None:
    """What is public is said to be, and nothing else is."""
    losses = {*REGISTRY, "cross_entropy"}
    assert losses <= set(arrayloss.__all__)
    others = {
        "Combination",
        "Loss",
        "Outputs",
        "Parts",
        "Properties",
        "class_balanced_weights",
        "define",
        "fenchel_young",
        "hardest",
        "ldam_margins",
        "length_mask",
        "logit_adjustment",
        "loss",
        "metrics",
        "one_hot",
        "ordinal_levels",
        "outputs",
        "pairwise_distance",
        "use_engine",
    }
    assert set(arrayloss.__all__) - losses == others
    assert all(hasattr(arrayloss, name) for name in (*arrayloss.__all__, "__version__"))
    assert all(hasattr(arrayloss.define, name) for name in arrayloss.define.__all__)


def test_private_names_of_pytorch_are_there() -> None:
    """What decides whether the host engine may read a tensor, and what forward mode inside forward mode needs (torch 2.13)."""
    torch = pytest.importorskip("torch")
    from torch.fx.experimental import symbolic_shapes
    from torch.utils.flop_counter import FlopCounterMode

    seen = []
    torch.func.vmap(lambda x: seen.append(torch._C._are_functorch_transforms_active()) or x)(torch.ones(2))
    assert [*seen, torch._C._are_functorch_transforms_active()] == [True, False]
    with FlopCounterMode(display=False):
        assert torch._C._len_torch_dispatch_stack() == 1
    assert torch._C._len_torch_dispatch_stack() == 0
    assert callable(torch.autograd.forward_ad._set_fwd_grad_enabled)
    assert callable(torch.utils._pytree.register_pytree_node)
    assert torch.ops.prims.abs.default(torch.tensor(-1.0)) == 1
    assert not WHOLE_GRAPHS or symbolic_shapes.has_static_value(1.0)
