"""What is public is documented, in numpydoc's form: checked by its own validation, which knows the signatures."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg

docscrape = pytest.importorskip("numpydoc.docscrape")
validate = pytest.importorskip("numpydoc.validate")

ROOMS = ("", ".nn", ".nn.init", ".compile", ".bptt", ".optim", ".analysis", ".tasks", ".train")
CODES = {
    "GL03", "GL05", "GL06", "GL07", "GL08", "GL09", "GL10", "SS01", "SS03", "SS04", "SS06", "PR01", "PR02", "PR03",
    "PR04", "PR05", "PR07", "PR09", "PR10", "RT01", "RT03", "RT05", "YD01", "EX01",
}  # fmt: skip
NUMPYS = {"PR01", "RT01", "EX01"}  # of an operation that takes a NumPy function's arguments, NumPy documents them


def public(room: str) -> dict:
    """The public functions and classes of a room; of one without a list of them, those that are written there."""
    module = importlib.import_module(f"tinygrad_rnn{room}")
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]  # fmt: skip
    found = {f"{module.__name__}.{name}": getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if callable(value)}


PUBLIC = {name: value for room in ROOMS for name, value in public(room).items()}
PARTS = {
    f"{base.__module__}.{base.__qualname__}.{name}": (base, name)
    for kind in filter(inspect.isclass, PUBLIC.values()) for base in kind.__mro__
    if base.__module__.startswith("tinygrad_rnn")
    for name, value in vars(base).items()
    if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property))
}  # fmt: skip


def errors(value: object) -> list:
    return validate.validate(docscrape.get_doc_object(value))["errors"]


def has_numpys_arguments(name: str) -> bool:
    """Whether it is an operation that is called as one of NumPy's functions is."""
    name = name.removeprefix("tinygrad_rnn.")
    return name in tg.ops.__all__ and (hasattr(np, name) or hasattr(np.linalg, name))


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_is_documented(name):
    wanted = CODES - NUMPYS if has_numpys_arguments(name) else CODES
    assert [error for error in errors(PUBLIC[name]) if error[0] in wanted] == []


@pytest.mark.parametrize("name", PARTS)
def test_methods_have_a_summary(name):
    """And what else they say, of their parameters, is right. What a base has said need not be said again."""
    kind, name = PARTS[name]
    said = next((base for base in kind.__mro__ if getattr(vars(base).get(name), "__doc__", None)), kind)
    part = vars(said)[name]
    if isinstance(part, property):
        assert re.fullmatch(r"[^\n]+\.(\n\n.*)?", inspect.getdoc(part) or "", re.DOTALL)
    else:
        assert [error for error in errors(part) if error[0] in CODES - NUMPYS - {"YD01"}] == []


def test_there_are_names_of_every_room():
    assert len(PUBLIC) > 250
    assert {name.removeprefix("tinygrad_rnn").rpartition(".")[0] for name in PUBLIC} == set(ROOMS)


def test_an_undocumented_parameter_is_found():
    def f(x, y):
        """Add.

        Parameters
        ----------
        x : array
            What to add to.

        Examples
        --------
        >>> f(1, 2)
        3
        """
        return x + y

    assert {"PR01", "RT01"} <= {code for code, _ in errors(f)}


def test_no_docstring_has_sections_of_another_form():
    google = re.compile(r"^ *(Args|Arguments|Returns|Yields|Raises|Attributes|Examples?|Notes?):$", re.MULTILINE)
    for path in sorted(Path(tg.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found = google.search(ast.get_docstring(node) or "")
                assert found is None, f"{path.name}: {getattr(node, 'name', 'module')}: {found.group()}"
