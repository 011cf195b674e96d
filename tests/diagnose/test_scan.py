"""Losses are found in a folder by reading it."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from arrayloss.diagnose.scan import Tally, scan
from arrayloss.diagnose.scan_command import scan_command

WRITTEN = Path(__file__).with_name("scanned.txt")
MARK = re.compile(r"# (LOSS|CALL) ([^#\n]+)")


def written(folder):
    """The files of scanned.txt, and what is marked in them: (file, line, is a call) -> what it looks like."""
    marks = {}
    for part in WRITTEN.read_text().split("=== ")[1:]:
        name, _, text = part.partition("\n")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        for line, content in enumerate(text.splitlines(), 1):
            for kind, looks_like in MARK.findall(content):
                marks.setdefault((name, line, kind == "CALL"), []).append(looks_like.strip().replace("-", ""))
    return marks


def only(tmp_path, text, name="code.py"):
    (tmp_path / name).write_text(text)
    return list(scan(tmp_path / name))


def test_losses_among_what_is_none(tmp_path):
    marks, found = written(tmp_path), {}
    for one in scan(tmp_path):
        place = (Path(one.path).relative_to(tmp_path).as_posix(), one.line, one.kind == "call")
        found.setdefault(place, []).append(one.looks_like)
    assert len(marks) > 60
    assert set(found) <= set(marks)  # nothing is taken for a loss that is none
    assert set(marks) - set(found) == {("src/losses/jax_losses.py", 11, False)}  # a divergence that only its formula tells
    for place, looks in found.items():
        assert sorted(looks) == sorted(marks[place]), place


@pytest.mark.parametrize(
    ("module", "least"),
    [
        ("torch/nn/modules/loss.py", 23),
        ("torch/nn/functional.py", 22),
        ("optax/losses/_classification.py", 19),
        ("monai/losses/dice.py", 7),
        ("kornia/losses/focal.py", 4),
        ("sklearn/metrics/_classification.py", 5),
    ],
)
def test_losses_of_libraries(module, least):
    name = module.partition("/")[0]
    package = util.find_spec(name)
    if package is None:
        pytest.skip(f"{name} is not installed")
    path = Path(package.origin).parent.parent / module
    assert path.exists(), f"this release of {name} has no {module}"
    found = [one.name for one in scan(path) if one.kind != "call" and one.certain]
    assert len(found) >= least
    assert all(re.search("loss|entropy|kl_div", name.lower()) for name in found)


@pytest.mark.parametrize(
    ("text", "looks_like"),
    [
        ("def loss(p, t):\n    return -(t * log(p) + (1 - t) * log(1 - p))", "binary_cross_entropy"),
        ("def my_loss(x, t):\n    p = sigmoid(x)\n    return -(t * log(p) + (1 - t) * log(1 - p))", "sigmoid_cross_entropy"),
        ("def loss(x, t):\n    return ((x - t) ** 2).mean()", "squared_error"),
        ("def loss(x, t):\n    d = x - t\n    return (d * d).mean()", "squared_error"),
        ("def loss(x, t):\n    return abs(x - t).mean()", "absolute_error"),
        ("def loss(x, t):\n    return 1 - 2 * (x * t).sum() / (x.sum() + t.sum())", "dice_loss"),
        ("def loss(x, t):\n    return (1 - sigmoid(x)) ** gamma * -log_sigmoid(x)", "sigmoid_focal_loss"),
        ("def loss(x, t):\n    return -log_softmax(x)[t]", "softmax_cross_entropy"),
        ("def focal(logits, labels):\n    lp = log_softmax(logits)\n    return -((1 - exp(lp)) ** 2) * lp", "softmax_focal_loss"),
        ("def f(pred, target):\n    return maximum(0, 1 - pred * target)", "hinge_loss"),
        ("class BCELoss(Module):\n    def forward(self, p, t):\n        return p", "binary_cross_entropy"),
        ("def ssim_loss(x, t):\n    return x", ""),
    ],
)
def test_what_a_loss_looks_like(tmp_path, text, looks_like):
    (found,) = only(tmp_path, text)
    assert found.looks_like == looks_like
    assert found.why


@pytest.mark.parametrize(
    "text",
    [
        "def get_loss(name):\n    return table[name]",
        "def log_loss_history(losses):\n    return losses[-1]",
        "def reduce_loss(loss, reduction):\n    return loss.mean()",
        "def dice_score(pred, target):\n    return 2 * (pred * target).sum() / (pred + target).sum()",
        "def focal_loss(x, t):\n    raise NotImplementedError",
        "def has_loss(x, t) -> bool:\n    return x.loss == t",
        "class TestFocalLoss(TestCase):\n    def forward(self, x, t):\n        return x",
        "class LossKind(Enum):\n    FOCAL = 1",
        "def train_loss(x, t):\n    loss = model(x, t)\n    loss.backward()\n    return loss",
        "def cross_entropy_loss_indices(count) -> list:\n    return list(count)",
        "lossless = 1",
        "",
    ],
)
def test_what_is_no_loss(tmp_path, text):
    assert only(tmp_path, text) == []


def test_uncertain_ones_say_so(tmp_path):
    assert [one.certain for one in only(tmp_path, "def f(pred, target):\n    return ((pred - target) ** 2).mean()")] == [False]
    assert [one.certain for one in only(tmp_path, "def mse_loss(pred, target):\n    return ((pred - target) ** 2).mean()")] == [True]


def test_nothing_is_imported(tmp_path):
    (tmp_path / "dangerous.py").write_text("raise SystemExit\n\ndef focal_loss(x, t):\n    return x\n")
    before = set(sys.modules)
    assert [one.name for one in scan(tmp_path)] == ["focal_loss"]
    assert not [name for name in set(sys.modules) - before if "dangerous" in name]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"def f(:", "does not parse: line 1"),
        (b'x = "\xff"', "utf-8"),
        (b"x = 1\0", "null bytes"),
        (b"x = " + b"(" * 3000, "does not parse|too deeply"),
        (b"#" + b" " * 2**20, "larger than 1 MiB"),
        (b"print 'two'", "does not parse"),
    ],
)
def test_files_that_cannot_be_read_are_counted(tmp_path, content, reason):
    (tmp_path / "a.py").write_bytes(content)
    (tmp_path / "b.py").write_text("def dice_loss(x, t):\n    return x\n")
    tally = Tally()
    assert [one.name for one in scan(tmp_path, tally=tally)] == ["dice_loss"]
    assert tally.read == 1
    ((path, said),) = tally.left_out
    assert path.endswith("a.py")
    assert re.search(reason, said), said


def test_other_encodings_and_marks_are_read(tmp_path):
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\ndef dice_loss(x, t):\n    return x\n")
    (tmp_path / "mark.py").write_bytes(b"\xef\xbb\xbfdef huber_loss(x, t):\n    return x\n")
    assert [one.name for one in scan(tmp_path)] == ["dice_loss", "huber_loss"]


def test_a_long_expression_is_no_end(tmp_path):
    text = "x = " + " + ".join(["1"] * 3000) + "\ndef dice_loss(x, t):\n    return x\n"
    tally = Tally()
    (tmp_path / "a.py").write_text(text)
    assert [one.name for one in scan(tmp_path, tally=tally)] == ["dice_loss"] or "too deeply" in tally.left_out[0][1]


def test_folders_that_are_left_out(tmp_path):
    loss = "def dice_loss(x, t):\n    return x\n"
    for name in (".git", "env", "node_modules", "site-packages", "__pycache__", "src"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "loss.py").write_text(loss)
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "page.ipynb").write_text("{}")
    tally = Tally()
    assert [Path(one.path).parent.name for one in scan(tmp_path, tally=tally)] == ["src"]
    reasons = sorted(reason for _, reason in tally.left_out)
    assert reasons == ["hidden folder", "notebook"] + ["virtual environment or installed packages"] * 3


@pytest.mark.skipif(os.name != "posix", reason="links and pipes are those of POSIX")
def test_links_and_pipes(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "loss.py").write_text("def dice_loss(x, t):\n    return x\n")
    (tmp_path / "src" / "loop").symlink_to(tmp_path)
    (tmp_path / "src" / "self.py").symlink_to("self.py")
    (tmp_path / "src" / "gone.py").symlink_to("nowhere.py")
    os.mkfifo(tmp_path / "src" / "pipe.py")  # opening it would wait for ever
    tally = Tally()
    assert len(list(scan(tmp_path, tally=tally))) == 1
    assert {Path(path).name for path, _ in tally.left_out} == {"loop", "self.py", "gone.py", "pipe.py"}


def test_the_order_is_that_of_paths_and_lines(tmp_path):
    written(tmp_path)
    first, second = list(scan(tmp_path)), list(scan(tmp_path))
    assert first == second
    for path in {one.path for one in first}:
        lines = [one.line for one in first if one.path == path]
        assert lines == sorted(lines)


def run(*arguments, code=0):
    done = CliRunner().invoke(scan_command, [str(a) for a in arguments])
    assert done.exit_code == code, done.output
    return done.stdout


def test_the_command(tmp_path):
    written(tmp_path)
    (tmp_path / "bad.py").write_text("def f(:")
    (tmp_path / ".hidden").mkdir()
    text = run(tmp_path, "--limit", "0")
    words = " ".join(text.split())
    assert "45 losses (11 of them uncertain) and 17 calls of losses of libraries in 30 Python files." in words
    assert "Left out: 1 hidden folder." in words
    assert "Not read: 1 file." in words
    assert "perhaps" in words
    assert "rows more" not in words
    assert "... and 58 rows more; --limit 0 shows all." in run(tmp_path, "--limit", "4")


def test_plain_data(tmp_path):
    (tmp_path / "mine.py").write_text("def huber(pred, target):\n    return abs(pred - target)\n")
    data = json.loads(run(tmp_path, "--json"))
    assert data["files"] == 1
    (one,) = data["found"]
    assert (one["name"], one["looks_like"]) == ("huber", "huber_loss")
    assert data["left_out"] == []


def test_calls_of_one_loss_are_one_row(tmp_path):
    (tmp_path / "train.py").write_text("import torch.nn.functional as F\n" + "a = F.l1_loss(x, y)\n" * 3)
    assert "F.l1_loss (call), 3 times" in run(tmp_path)
    assert len(json.loads(run(tmp_path, "--json"))["found"]) == 3


def test_what_is_found_at_module_level_is_tried(tmp_path, monkeypatch):
    """The processes themselves are tested with `worker`."""
    (tmp_path / "mine.py").write_text(
        "def huber(pred, target):\n    return abs(pred - target)\n\n\n"
        "def mse_loss(pred, target):\n    return (pred - target) ** 2\n\n\n"
        "class Model:\n    def dice_loss(self, pred, target):\n        return pred\n"
    )
    jobs = []

    def run_all(given, say):
        jobs.extend(given)
        reason = SimpleNamespace(code="factor", text="It is twice the loss.")
        same = SimpleNamespace(
            verdict="same", calls=["absolute_error(pred, target)"], reference="", reasons=[], to_dict=lambda: {"verdict": "same"}
        )
        other = SimpleNamespace(
            verdict="different", calls=["squared_error(pred, target)"], reference="", reasons=[reason], to_dict=lambda: {}
        )
        return [SimpleNamespace(result=same), SimpleNamespace(result=other)]

    monkeypatch.setitem(sys.modules, "arrayloss.diagnose.worker", SimpleNamespace(run_all=run_all))
    monkeypatch.setitem(sys.modules, "arrayloss.diagnose.works", SimpleNamespace(Job=lambda *values: values))
    text = " ".join(run(tmp_path, "--run").split())
    assert [job[1:] for job in jobs] == [(None, "identify")] * 2
    assert [job[0].rpartition(":")[2] for job in jobs] == ["huber", "mse_loss"]
    assert "is absolute_error(pred, target)" in text
    assert "is not squared_error(pred, target): factor" in text
    assert json.loads(run(tmp_path, "--run", "--json"))["found"][0]["run"] == {"verdict": "same"}


def test_a_folder_without_python(tmp_path):
    assert "0 losses and 0 calls of losses of libraries in 0 Python files." in run(tmp_path, code=2)
    assert run(tmp_path / "nowhere", code=2) == ""


def test_names_that_no_terminal_should_obey(tmp_path):
    (tmp_path / "a\x1b[31m[red].py").write_text("def dice_loss(x, t):\n    return x\n")
    text = run(tmp_path)
    assert "\x1b" not in text
    assert "[red]" in text
