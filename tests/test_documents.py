"""Every example in the Markdown files runs, and every link leads somewhere."""

from __future__ import annotations

import doctest
import re
import sys
from importlib import import_module, util
from pathlib import Path

import pytest

from arrayloss.frontend.loss import REGISTRY

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ELSEWHERE = {"CONTRIBUTING.md": "test_contributing.py", "distributed.md": "test_distributed.py"}  # with what these need around them


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name not in ELSEWHERE], ids=lambda p: p.name)
def test_examples_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are one file, `mine.py`, which the sessions may import; sessions are doctests."""
    text = path.read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    programs = [block for block in blocks if not block.startswith(">>> ")]
    if "import cupy" in "".join(programs) and not util.find_spec("cupy"):
        pytest.skip("CuPy is not installed")
    (tmp_path / "mine.py").write_text("\n".join(programs))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    import_module("mine")
    result = doctest.testfile(str(path), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted or ">>> " not in text


def test_pages_that_run_elsewhere() -> None:
    assert all((Path(__file__).parent / name).exists() for name in ELSEWHERE.values())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    """To files, and to headings within them."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text()):
        there = path.parent / target if target else path
        assert there.exists(), f"{path.name} links to {target}"
        if anchor:
            headings = [
                re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-")
                for h in re.findall(r"^#+ (.*)", there.read_text(), re.MULTILINE)
            ]
            assert anchor in headings, f"{path.name} links to {target}#{anchor}"


def test_readme_names_every_loss() -> None:
    readme = (ROOT / "README.md").read_text()
    assert not [name for name in REGISTRY if f"`{name}`" not in readme]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_readme_has_the_figures_of_the_page_of_speeds() -> None:
    table = (ROOT / "README.md").read_text().partition("## Speed")[2]
    figures = re.findall(r"\| (\d\.\d\d \| \d\.\d\d \| \d\.\d\d) \|$", table, re.MULTILINE)
    speeds = (ROOT / "docs" / "speed.md").read_text().replace("**", "")
    assert len(figures) == 6
    assert not [f for f in figures if f"| {f} |" not in speeds]
