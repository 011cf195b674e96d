"""docs/check.md shows what the commands print."""

from __future__ import annotations

import importlib.util
import re

import pytest

from arrayloss.diagnose import diagnose

from .page import COMMANDS, PAGE, PROGRAM, read, session, sessions, written

TEXT = PAGE.read_text(encoding="utf-8")


def rough(text: str) -> str:
    """Without the digits of numbers that have lost theirs, which are the processor's."""
    return re.sub(r"\d\.\d+e-\d+", "small", text)


def test_the_program_and_the_codes():
    """If this fails: python -m tests.diagnose.page"""
    assert written(TEXT, read()) == TEXT


def test_a_session_is_that_of_the_diagnosis():
    """If this fails: python -m tests.diagnose.page"""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("mine_of_the_page", PROGRAM)
    mine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mine)
    found = diagnose(mine.copied, "torch", reference="sigmoid_focal_loss")
    command, *lines = session(TEXT, "wrong")
    assert command == f"$ {COMMANDS[1]}"
    assert rough("\n".join(lines)) == rough("\n".join(found.lines()))
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 80


@pytest.mark.exhaustive
def test_sessions_are_what_the_commands_print():
    """If this fails: python -m tests.diagnose.page"""
    pytest.importorskip("torch")
    found = sessions()
    assert len(found) == len(COMMANDS)
    assert rough(written(TEXT, found)) == rough(TEXT)
