"""What the package asks of NumPy, CuPy must have, too: read from the source, without running it.

NumPy hands its functions over to CuPy by name. One that CuPy lacks, or a keyword that CuPy does not know, would fail on
a GPU only, where nobody runs the tests every day. So the source is scanned for ``np.`` names and their keywords, and
they are looked up in the committed table of CuPy's; and, where CuPy is installed, the table is held against the wheel.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import cupy_names
import fakecupy
import numpy as np
import pytest

NAMES = cupy_names.read()
PACKAGE = Path(__file__).parents[1] / "tinygrad_rnn"
# what NumPy and SciPy compute, on the host; and what is drawn
FITTED = {"given.py", "readout.py", "echo_state.py", "spectrum.py", "tuning.py", "plotting.py"}
SCANNED = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    # what is computed on the host; kernels of its own; data
    if path.parent.name not in ("analysis", "compile", "tasks") and path.name not in FITTED
)
UFUNC_KEYWORDS = {"out", "dtype", "casting"}
UFUNC_METHODS = {"at": set(fakecupy.AT), "reduce": {"add", "multiply"}, "accumulate": {"add", "multiply"}}
NUMPY_ONLY = {name for name in dir(np.ndarray) if name[0] != "_" and f"ndarray.{name}" not in NAMES}

# What is used though CuPy lacks it, or though it makes an array of the host: by file, function and name, and why.
ALLOWED = {
    ("config.py", "config", "show_config"): "of NumPy itself",
    ("nn/cells.py", "_set_bias", "asarray"): "of numbers for weights that are just made, on the host",
    ("config.py", "has_avx512", "show_config"): "of NumPy itself",
    ("ops/activation.py", "constants_of_sigmoid", "asarray"): "of constants, for NumPy's arrays alone",
    ("arrays.py", "operand", "array"): "a list",
    ("arrays.py", "as_array", "asarray"): "of a list or a number: a CuPy array has a shape",
    ("ops/linear.py", "solve", "broadcast_shapes"): "of shapes, no arrays",
    ("arrays.py", "new_array", "array"): "namespace() says that the data is not CuPy's",
    ("arrays.py", "shared_array", "from_dlpack"): "__dlpack_device__() says that the memory is the host's",
    ("arrays.py", "to_array", "asarray"): "of a NumPy scalar; CuPy returns none",
    ("tensor.py", "__array__", "array"): "a tensor on a GPU has been refused above",
    ("check.py", "numerical_gradient", "array"): "of Python numbers; then moved to where the input is",
    ("check.py", "number", "asarray"): "a random projection; then moved to where the result is",
    ("check.py", "compare", "array"): "of Python numbers, which are compared on the host",
    ("check.py", "compare", "full"): "the same",
    ("check.py", "compare", "ones"): "the same",
    ("check.py", "compare", "nanmax"): "the same",
    ("transforms.py", "inner", "zeros"): "a sum of no terms: it has no entry, and nothing is computed with it",
    ("nn/exchange.py", "from_torch", "array"): "x.cpu().numpy()",
    ("nn/exchange.py", "_array", "asarray"): "moved to the host first",
    ("nn/weights.py", "_flat", "asarray"): "moved to the host first",
    ("nn/weights.py", "_to_npz", "lib.format.write_array"): "a file",
    ("nn/weights.py", "_array", "lib.format.read_array"): "a file",
    ("nn/weights.py", "_array", "lib.format.read_magic"): "a file",
    ("nn/weights.py", "_array", "lib.format.read_array_header_1_0"): "a file",
    ("nn/weights.py", "_array", "lib.format.read_array_header_2_0"): "a file",
    ("nn/init.py", "identity", "eye"): "a parameter's first value, which the host makes",
    ("nn/residual.py", "transform_gate", "full"): "a parameter's first value, which the host makes",
    ("nn/layers.py", "example", "zeros"): "then moved to where the parameters are",
    ("nn/loss.py", "what_counts", "arange"): "lengths are on the host; the mask is moved then",
    ("nn/recurrent.py", "mask_of", "arange"): "lengths are on the host",
    ("nn/recurrent.py", "checked_lengths", "asarray"): "lengths on a GPU have been refused above",
    ("nn/recurrent.py", "flags", "asarray"): "a list",
    ("nn/reservoir.py", "_recurrent", "ones"): "a parameter's first value, which the host makes",
    ("nn/reservoir.py", "_recurrent", "arange"): "the same",
    ("nn/reservoir.py", "_keep", "zeros"): "the same",
    ("nn/reservoir.py", "_keep", "arange"): "the same",
    ("nn/reservoir.py", "aligned", "empty"): "the same",
    ("nn/reservoir.py", "scaled", "asarray"): "the same",
    ("optim/optimizers.py", "load_state_dict", "asarray"): "a number that was saved",
    ("optim/optimizers.py", "plain", "asarray"): "a number, or a few, that were saved",
    ("ops/indexing.py", "take_along_axis", "arange"): "index arrays of the host are allowed: CuPy uploads them",
    ("ops/indexing.py", "repeats", "zeros"): "namespace() says that the index is not CuPy's",
    ("ops/shape.py", "repeat", "arange"): "an index array of the host: CuPy uploads it",
    ("ops/shape.py", "pad", "arange"): "an index array of the host: CuPy uploads it",
    ("train/checkpoints.py", "write", "frombuffer"): "text, in a file",
    ("train/data.py", "batches", "arange"): "indices, moved to where the arrays are",
    ("train/data.py", "in_order", "arange"): "the same",
}
HOST = {"random.default_rng", "seterr"}  # random numbers are drawn on the host, on purpose; and its warnings


def uses(path: Path) -> list[tuple[str, str, int, ast.Call | None]]:
    """Every ``np.name`` of a file, dotted as far as it goes: with the function, the line and the call that it is in."""
    found = []

    def visit(node: ast.AST, function: str, call: ast.Call | None = None) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = node.name
        if isinstance(node, ast.Attribute) and (name := dotted(node)):
            found.append((function, name, node.lineno, call))
            return
        for child in ast.iter_child_nodes(node):
            visit(child, function, node if isinstance(node, ast.Call) and child is node.func else None)

    visit(ast.parse(path.read_text()), "")
    return found


def dotted(node: ast.AST) -> str | None:
    """``linalg.inv`` of ``np.linalg.inv``; None where it does not begin with np."""
    if isinstance(node, ast.Attribute):
        before = "" if isinstance(node.value, ast.Name) and node.value.id == "np" else dotted(node.value)
        return None if before is None else f"{before}.{node.attr}".lstrip(".")
    return None


def complaint(name: str, call: ast.Call | None) -> str | None:
    """What CuPy would not take of this use of ``np.name``; None if it would take all."""
    thing, rest = np, name.split(".")
    while rest and hasattr(thing, rest[0]):
        thing = getattr(thing, rest.pop(0))
        if isinstance(thing, np.ufunc):
            break
        if isinstance(thing, type) or (not callable(thing) and not inspect.ismodule(thing)):
            return None  # types, dtypes and constants are the same in both
    if isinstance(thing, np.ufunc):
        if NAMES.get(thing.__name__) is None:
            return "CuPy has no such ufunc"
        if rest:
            allowed = thing.__name__ in UFUNC_METHODS.get(rest[0], ())
            return None if allowed else f"CuPy's ufunc has no {rest[0]}"
        refused = {k.arg for k in call.keywords} - UFUNC_KEYWORDS if call else None
        return f"CuPy's ufuncs have no {refused}" if refused else None
    if rest:
        return "NumPy has no such name"
    if inspect.ismodule(thing) or name in HOST:
        return None
    if type(thing).__name__ != "_ArrayFunctionDispatcher":
        return "NumPy does not hand it over to CuPy: it makes, or asks for, an array of the host"
    full = ".".join([*thing.__module__.split(".")[1:], thing.__name__])
    if full not in NAMES:
        return "CuPy has no such function"
    return arguments_refused(NAMES[full], call) if call else None


def arguments_refused(signature: inspect.Signature | str | None, call: ast.Call) -> str | None:
    if not isinstance(signature, inspect.Signature):
        return None
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        bind, given = signature.bind_partial, [a for a in call.args if not isinstance(a, ast.Starred)]
    else:
        bind, given = signature.bind, call.args
    try:
        bind(*given, **{k.arg: k.value for k in call.keywords if k.arg})
    except TypeError as error:
        return f"CuPy's signature is {signature}: {error}"
    return None


@pytest.mark.parametrize("path", SCANNED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_cupy_has_what_is_used(path):
    where = str(path.relative_to(PACKAGE))
    found = [
        f"{where}:{line}: np.{name}, in {function}: {problem}"
        for function, name, line, call in uses(path)
        if (problem := complaint(name, call)) and (where, function, name) not in ALLOWED
        if not (where.startswith("nn/") and function == "__init__")  # a module is made on the host, and moved
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SCANNED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_numpy_is_called_by_one_name(path):
    """``np.name``, which the scan finds. And no method or attribute of NumPy's arrays that CuPy's have not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, ast.ImportFrom) and node.module != "numpy.lib.array_utils"
        ):  # that is of axes: plain numbers
            assert (node.module or "").split(".")[0] != "numpy", f"line {node.lineno}"
        if isinstance(node, ast.Import):
            assert all(alias.asname == "np" for alias in node.names if alias.name == "numpy"), f"line {node.lineno}"
        if isinstance(node, ast.Attribute) and node.attr in NUMPY_ONLY:
            pytest.fail(f"line {node.lineno}: CuPy's arrays have no .{node.attr}")


def test_cupy_is_imported_in_one_place():
    """By arrays.py, when somebody asks for the device; and by generated kernels, in compile/."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {str(path.relative_to(PACKAGE)) for name in modules if name.split(".")[0] in ("cupy", "cupyx")}
    assert {name for name in found if not name.startswith("compile/")} == {"arrays.py"}


def test_what_is_allowed_is_used():
    """An exception that nobody needs any more is taken back."""
    used = {(str(path.relative_to(PACKAGE)), *use[:2]) for path in SCANNED for use in uses(path)}
    assert not (gone := set(ALLOWED) - used), gone


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("np.unstack(x)", "no such function"),
        ("np.linalg.vector_norm(x)", "no such function"),
        ("np.vecdot(x, y)", "no such ufunc"),
        ("np.sum(x, where=m)", "where"),
        ("np.sum(x, initial=0)", "initial"),
        ("np.add(x, y, where=m)", "no {'where'}"),
        ("np.clip(x, min=0)", "min"),
        ("np.take(x, i, mode='clip')", "mode"),
        ("np.multiply.at(x, i, y)", "no at"),
        ("np.maximum.reduce(x)", "no reduce"),
        ("np.arange(3)", "array of the host"),
        ("np.asarray(x)", "array of the host"),
        ("np.linalg.cholesky(x, upper=True)", "upper"),
        ("np.nothing(x)", "no such name"),
        ("np.sum(x, axis=0, keepdims=True)", None),
        ("np.concat([x, y])", None),
        ("np.permute_dims(x, (1, 0))", None),
        ("np.acos(x)", None),
        ("np.add.at(x, i, y)", None),
        ("np.einsum('ij->j', *x)", None),
        ("np.sum(x, **keywords)", None),
        ("np.float32(2) * np.pi + np.linalg.LinAlgError + np.finfo(x.dtype).eps", None),
        ("f(np.tanh)", None),
    ],
)
def test_the_scan_itself(tmp_path, source, problem):
    (tmp_path / "ops.py").write_text(source)
    problems = [p for _, name, _, call in uses(tmp_path / "ops.py") if (p := complaint(name, call))]
    assert (problem is None) == (not problems), problems
    assert problem is None or problem in problems[0]


def test_the_table_is_the_wheels():
    """The committed table says what CuPy says of itself. Importing CuPy needs no GPU."""
    cupy = pytest.importorskip("cupy")
    if not cupy.__version__.startswith(cupy_names.VERSION):
        pytest.skip(f"the table is that of CuPy {cupy_names.VERSION}, this is {cupy.__version__}")
    committed = Path(cupy_names.__file__).with_name("cupy_names.txt").read_text().split("\n")
    assert cupy_names.listed(cupy) == committed[:-1]


@pytest.mark.parametrize("path", SCANNED, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_any_cupy_has_what_is_used(path):
    """The same of the CuPy that is installed, whatever its version: every name, and the keywords where it says them."""
    cupy = pytest.importorskip("cupy")
    where = str(path.relative_to(PACKAGE))
    for function, name, line, call in uses(path):
        thing = np
        for part in name.split("."):
            thing = getattr(thing, part, None)
        if isinstance(thing, np.ufunc):
            assert hasattr(cupy, thing.__name__), f"{where}:{line}: np.{name}"
        elif type(thing).__name__ == "_ArrayFunctionDispatcher" and (where, function, name) not in ALLOWED:
            owner = cupy.linalg if thing.__module__ == "numpy.linalg" else cupy
            assert hasattr(owner, thing.__name__), f"{where}:{line}: np.{name}"
            try:
                signature = inspect.signature(getattr(owner, thing.__name__))
            except ValueError:  # compiled, and says nothing
                continue
            refused = arguments_refused(signature, call) if call else None
            assert not refused, f"{where}:{line}: np.{name}: {refused}"
