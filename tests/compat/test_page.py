from __future__ import annotations

from .page import PAGE, printed


def test_the_page_has_every_preset() -> None:
    """If this fails: python -m tests.compat.page"""
    assert PAGE.read_text(encoding="utf-8") == printed()
