"""The table of operations is complete, and what it draws reaches the places where bugs are."""

import inspect
import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from registry import ALIASES, NOT_PUBLIC, SPECS
from running import is_floating
from strategies import Source, cases

from tinygrad_rnn import ops

SEEDS = range(400)
PRIMITIVES = {
    name: function.op
    for module in (ops.activation, ops.elementwise, ops.indexing, ops.linear, ops.reduction, ops.shape)
    for name, function in vars(module).items()
    if hasattr(function, "op")
}
OF_NO_KIND = {  # they choose, join, part, shift, scan or solve
    "_add", "_concatenate", "_move", "_pad", "_set", "_stack", "cholesky", "cumprod", "cumsum", "getitem", "inv",
    "log_softmax", "put", "roll", "slogdet", "softmax", "solve", "split", "tril", "triu", "unstack",
}  # fmt: skip
every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def drawn(spec):
    for seed in SEEDS:
        yield spec.draw(Source.seeded(seed))


def test_every_operation_is_in_the_table():
    proved = {name.partition(".")[0] for name in SPECS} | ALIASES.keys()
    assert set(ops.__all__) - proved == set()
    assert proved - set(ops.__all__) == NOT_PUBLIC
    assert len(set(ops.__all__)) == len(ops.__all__)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_same_function(alias):
    assert getattr(ops, alias) is getattr(ops, ALIASES[alias])


@pytest.mark.parametrize("name", PRIMITIVES)
def test_a_primitive_declares_its_kind(name):
    """Or it is listed above, as one that is of none. What a ufunc of NumPy's does, that ufunc does."""
    op, spec = PRIMITIVES[name], SPECS.get(name)
    assert (op.kind is None) == (name in OF_NO_KIND)
    theirs = spec and spec.numpy
    if isinstance(theirs, np.ufunc) and theirs.signature is None:
        assert (op.ufunc, op.forward, op.kind) == (theirs, theirs, "elementwise")
    if spec and name not in OF_NO_KIND:
        assert (op.kind == "view") == (spec.view is True)


@every
def test_an_entry_has_points_and_errors(spec):
    assert spec.special
    assert spec.errors
    assert spec.diff == () or any(row.grads for row in spec.special)


@every
def test_every_argument_is_drawn(spec):
    """Those of the signature that are no arrays, by name; those that have a default are left out now and then."""
    if spec.name.startswith("at.") or spec.name in NOT_PUBLIC or isinstance(spec.numpy, np.ufunc):
        return  # they have none
    parameters = inspect.signature(getattr(ops, spec.name)).parameters
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters.values()) or "arrays" in parameters
    arrays = {"arrays", "operands"} if several else set(list(parameters)[: len(next(drawn(spec))[0])])
    options = {p.name: p.default is not p.empty for p in parameters.values() if p.name not in arrays}
    given = Counter(name for _, keywords in drawn(spec) for name in keywords)
    assert set(given) == set(options)
    for name, has_default in options.items():
        assert not has_default or given[name] < len(SEEDS), f"the default of {name} is never used"


def kinds(arrays: tuple, keywords: dict) -> set[str]:
    """What there is about an example."""
    found = set()
    floats = [x for x in arrays if is_floating(x)]
    for x in floats:
        found |= {f"{x.ndim} axes", "no elements" if x.size == 0 else "elements"}
        found |= {"a length of 1"} if 1 in x.shape else set()
    for a, b in itertools.combinations([x.shape for x in floats], 2):
        if a != b:
            found |= (
                {"fewer axes on the left"}
                if len(a) < len(b)
                else {"fewer axes on the right"}
                if len(b) < len(a)
                else set()
            )
        for i, j in zip(a[::-1], b[::-1]):
            found |= {"1 against n"} if i == 1 < j else {"n against 1"} if j == 1 < i else set()
            found |= {"1 against 0"} if {i, j} == {0, 1} else set()
    for name in ("axis", "axes", "axis1", "source"):
        if name in keywords:
            axes = keywords[name]
            for axis in axes if isinstance(axes, (tuple, list)) else [axes]:
                found |= (
                    {"axis=None"}
                    if axis is None
                    else set()
                    if not isinstance(axis, int)
                    else ({"negative axis"} if axis < 0 else {"axis from the front"})
                )
            found |= {f"a tuple of {len(axes)}"} if isinstance(axes, tuple) else set()
    if keywords.get("keepdims"):
        found.add("keepdims")
    return found


RANKS = {"0 axes", "1 axes", "2 axes", "3 axes", "no elements", "a length of 1"}
BROADCAST = RANKS | {"fewer axes on the left", "fewer axes on the right", "1 against n", "n against 1", "1 against 0"}
AXES = {"negative axis", "axis from the front"}
TUPLES = AXES | {"axis=None", "a tuple of 0", "a tuple of 1", "a tuple of 2", "a tuple of 3", "keepdims"}
UNARY = {
    "negative square sqrt exp log tanh sin absolute relu sigmoid floor erf round astype clip": RANKS,
    "power": BROADCAST - {"1 against 0"},
    "add subtract multiply divide remainder hypot logaddexp arctan2 maximum minimum where": BROADCAST,
    "sum prod mean var logsumexp max min norm": RANKS - {"no elements"}
    | TUPLES - {"a tuple of 0", "a tuple of 1", "a tuple of 3"},
    "sum prod mean": RANKS | TUPLES,
    "std": {"1 axes", "2 axes", "3 axes"} | TUPLES - {"a tuple of 0"},
    "softmax log_softmax": {"1 axes", "3 axes", "a tuple of 2", *AXES},
    "cumsum cumprod roll flip repeat take take_along_axis stack concatenate split unstack": AXES | {"1 axes", "3 axes"},
    "reshape transpose ravel tile expand_dims getitem flip roll cumsum cumprod at.set at.add": RANKS - {"3 axes"},
    "transpose swapaxes moveaxis diagonal trace tensordot": AXES,
    "matmul": {"1 axes", "2 axes", "3 axes", "no elements", "fewer axes on the left", "fewer axes on the right"},
    "dot inner outer tensordot einsum": {"0 axes", "1 axes", "2 axes"},
    "solve": {"1 axes", "2 axes", "3 axes", "4 axes", "fewer axes on the left", "fewer axes on the right"},
    "inv": {"2 axes", "3 axes", "no elements"},
}


@pytest.mark.parametrize(
    ("name", "wanted"), [(name, kinds) for names, kinds in UNARY.items() for name in names.split()]
)
def test_draws_reach(name, wanted):
    """Each of these kinds, and not just once."""
    counted = Counter(kind for arrays, keywords in drawn(SPECS[name]) for kind in kinds(arrays, keywords))
    assert {kind: counted[kind] for kind in wanted if counted[kind] < 3} == {}


def test_hypothesis_reaches_them_too():
    """With the examples of the profile that runs, as with seeds."""
    counted = Counter()

    @given(cases(SPECS["sum"].draw))
    def count(case):
        counted.update(kinds(case[0], case[1]))

    count()
    assert counted.keys() >= {"0 axes", "3 axes", "no elements", "negative axis", "keepdims"}


def test_indices_are_of_every_kind():
    counted = Counter()
    for arrays, keywords in drawn(SPECS["getitem"]):
        index = keywords["index"]
        parts = index if isinstance(index, tuple) else (index,)
        arrays_in = [np.asarray(part) for part in parts if isinstance(part, (np.ndarray, list))]
        counted.update(type(part).__name__ for part in parts)
        counted.update("mask" for part in arrays_in if part.dtype == bool)
        counted.update("two arrays" for _ in arrays_in[1:])
        counted.update("negative step" for part in parts if isinstance(part, slice) and (part.step or 1) < 0)
        try:
            picked = np.arange(arrays[0].size).reshape(arrays[0].shape)[index]
        except IndexError:
            continue
        counted.update(["a place twice"] if np.unique(picked).size < np.size(picked) else [])
    wanted = [
        "ndarray",
        "list",
        "slice",
        "int",
        "NoneType",
        "ellipsis",
        "mask",
        "two arrays",
        "negative step",
        "a place twice",
    ]
    assert {kind: counted[kind] for kind in wanted if counted[kind] < 10} == {}
