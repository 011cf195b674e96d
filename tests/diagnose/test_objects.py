"""What people have becomes a callable, and says what it takes and which numbers it has."""

from __future__ import annotations

import os
import sys
from functools import partial

import pytest

from arrayloss.diagnose.objects import argument_names, constants, load, source
from arrayloss.diagnose.places import NotLoadedError

MODULE = """
from functools import partial, wraps


def focal(x, t, gamma=2.0, alpha=None):
    return (x - t) ** gamma


class Focal:
    scale = 3

    def __init__(self, gamma=1.0, *, name="focal", classes=()):
        self._gamma, self.name, self.classes = gamma, name, classes

    def __call__(self, y_true, y_pred, sample_weight=None):
        return (y_true - y_pred) ** self._gamma

    @classmethod
    def of(cls, x, t):
        return x - t


class Record:
    pass


class Needs:
    def __init__(self, gamma):
        pass

    def __call__(self, x, t):
        return x


def make(gamma=4.0):
    def loss(logits, targets):
        return (logits - targets) ** gamma

    return loss


def logged(f):
    @wraps(f)
    def call(*args, **kwargs):
        return f(*args, **kwargs)

    return call


wrapped = logged(focal)
bound = partial(focal, gamma=5.0)
ours = Focal(7)
number = 3
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's folder: a module, a file with a dash in its name, and a package with relative imports."""
    (tmp_path / "objects_of_mine.py").write_text(MODULE)
    (tmp_path / "other-losses.py").write_text("import objects_of_mine as m\nfocal = m.focal\n")
    (tmp_path / "bundle" / "losses").mkdir(parents=True)
    (tmp_path / "bundle" / "__init__.py").write_text("")
    (tmp_path / "bundle" / "losses" / "__init__.py").write_text("from .base import scale\n")
    (tmp_path / "bundle" / "losses" / "base.py").write_text("scale = 2.0\n")
    (tmp_path / "bundle" / "losses" / "focal.py").write_text("from .base import scale\ndef focal(x, t): return scale * (x - t)\n")
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("objects_of_mine", "bundle", "other-losses", "json_", "file_json"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("objects_of_mine:focal", 4),
        ("objects_of_mine.py:focal", 4),
        ("{folder}/objects_of_mine.py:focal", 4),
        ("./objects_of_mine:focal", 4),
        ("other-losses.py:focal", 4),
        ("objects_of_mine:Focal", 2),
        ("objects_of_mine:Focal(gamma=3)", 8),
        ("objects_of_mine:Focal(3, name='a:b', classes=[1, -2])", 8),
        ("objects_of_mine:Focal(gamma=3).__call__", 8),
        ("objects_of_mine:Focal.of", 2),
        ("objects_of_mine:make(gamma=2)", 4),
        ("objects_of_mine:make", None),
        ("objects_of_mine:bound", 32),
        ("objects_of_mine:ours", 128),
        ("bundle.losses.focal:focal", 4),
        ("bundle/losses/focal.py:focal", 4),
    ],
)
def test_what_people_have_is_a_callable(project, text, result):
    function = load(text.format(folder=project))
    assert result is None or function(3, 1) == result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("objects_of_mine:fokal", "module objects_of_mine has no 'fokal' (objects_of_mine.py); did you mean 'focal'?"),
        ("objects_of_mine:Focal.gama", "Focal has no 'gama' (objects_of_mine.py)"),
        ("objects_of_mine:number", "objects_of_mine:number is no function, but int"),
        ("objects_of_mine:Record", "is a class whose objects cannot be called"),
        ("objects_of_mine:Needs", "cannot be made without arguments; write objects_of_mine:Needs(option=value): TypeError"),
        ("objects_of_mine:Focal(gama=1)", "cannot be made: TypeError"),
        ("objects_of_mine:Focal(gamma=number)", "arguments are literals, such as 3"),
        ("objects_of_mine:Focal(gamma=exit())", "arguments are literals, such as 3"),
        ("objects_of_mine:Focal(**{'gamma': 2})", "arguments are literals, such as 3"),
        ("objects_of_mine:[focal]", "write package.module:name"),
        ("objects_of_mine", "write package.module:name"),
        ("objects_of_yours:focal", "module objects_of_yours cannot be imported: ModuleNotFoundError: No module named 'objects_of_yours'"),
        ("objects_of_yours.py:focal", "there is no file {folder}/objects_of_yours.py"),
    ],
)
def test_what_cannot_be_had_is_said(project, text, said):
    with pytest.raises(NotLoadedError) as caught:
        load(text)
    assert said.format(folder=project) in str(caught.value)


@pytest.mark.parametrize(
    ("program", "line", "code", "said"),
    [
        ("x = 1\nimport nowhere\n", 2, "import_error", "No module named 'nowhere'"),
        ("x = 1\n\nraise ValueError('no\\nway')\n", 3, "import_error", "ValueError: no ("),
        ("def f(:\n", 1, "import_error", "SyntaxError: invalid syntax ("),
        ("import sys\nsys.exit(0)\n", 2, "exits", "it ends the process, sys.exit(0)"),
        ("import json\nx = 1\njson.loads('?')\n", 3, "import_error", "JSONDecodeError"),
    ],
)
def test_errors_of_a_module_name_its_file_and_line(project, program, line, code, said):
    (project / "bundle" / "wrong.py").write_text(program)
    for text in ("bundle.wrong:f", "bundle/wrong.py:f"):
        with pytest.raises(NotLoadedError) as caught:
            load(text)
        error = caught.value
        assert (error.code, error.file, error.line) == (code, str(project / "bundle" / "wrong.py"), line)
        assert said in str(error)
        assert str(error).endswith(f"({os.path.join('bundle', 'wrong.py')}, line {line})")


def test_a_file_named_as_a_module_that_is_there_is_not_taken_for_it(project):
    (project / "json.py").write_text("def f(x, t): return x + t\n")
    assert load("json.py:f")(1, 2) == 3
    assert hasattr(sys.modules["json"], "loads")


def test_numbers_by_name(project):
    assert constants(load("objects_of_mine:focal")) == {"gamma": 2.0}
    assert constants(load("objects_of_mine:wrapped"))["gamma"] == 2.0
    assert constants(load("objects_of_mine:bound")) == {"gamma": 5.0}
    assert constants(partial(load("objects_of_mine:bound"), gamma=6)) == {"gamma": 6.0}
    assert constants(load("objects_of_mine:Focal(gamma=3)")) == {"gamma": 3.0, "scale": 3.0}
    assert constants(load("objects_of_mine:make(gamma=2)")) == {"gamma": 2.0}


def test_arguments_that_take_arrays(project):
    assert argument_names(load("objects_of_mine:focal")) == ["x", "t"]
    assert argument_names(load("objects_of_mine:wrapped")) == ["x", "t"]
    assert argument_names(load("objects_of_mine:bound")) == ["x", "t"]
    assert argument_names(load("objects_of_mine:Focal")) == ["y_true", "y_pred"]
    assert argument_names(lambda x, t=None, weight=None: x) == ["x", "t"]
    assert argument_names(lambda anchor, positive, negative, margin=1.0: anchor) == ["anchor", "positive", "negative"]
    assert argument_names(lambda *arrays, gamma=2.0: arrays) == []
    assert argument_names(dict.fromkeys) in ([], ["iterable", "value"])


def test_where_it_is_written(project):
    lines = MODULE.splitlines()
    assert source(load("objects_of_mine:wrapped")) == (
        str(project / "objects_of_mine.py"),
        lines.index(next(s for s in lines if "focal(" in s)) + 1,
    )
    assert source(load("objects_of_mine:ours")) == (
        str(project / "objects_of_mine.py"),
        lines.index(next(s for s in lines if "__call__" in s)) + 1,
    )
    assert source(len) == ("", 0)


def test_modules_of_pytorch():
    torch = pytest.importorskip("torch")

    class Focal(torch.nn.Module):
        def __init__(self, gamma=2.0):
            super().__init__()
            self.gamma = gamma
            self.register_buffer("alpha", torch.tensor(0.25))

        def forward(self, inputs, targets, smooth=1):
            return inputs - targets

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, t):
            return (x - t) ** 2

    assert argument_names(Focal()) == ["inputs", "targets"]
    assert constants(Focal(gamma=3)) == {"gamma": 3.0, "alpha": 0.25, "smooth": 1.0}
    assert constants(partial(Focal(gamma=3), smooth=2.0)) == {"gamma": 3.0, "alpha": 0.25, "smooth": 2.0}
    assert constants(torch.nn.HuberLoss(delta=0.5))["delta"] == 0.5
    assert argument_names(load("torch.nn:CrossEntropyLoss(label_smoothing=0.1)")) == ["input", "target"]
    assert argument_names(Square.apply) == ["x", "t"]
    assert source(Square.apply)[0] == __file__
