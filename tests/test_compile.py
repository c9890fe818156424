"""Compiled scans against the tape: the same numbers, for every cell, in every way to run it, by each source."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from test_matrix import CELLS, CUT, EXACT, WAYS, Case, outcome

import tinygrad_rnn as tg
from tinygrad_rnn.compile import Untraceable

needs_numba = pytest.mark.skipif(not importlib.util.find_spec("numba"), reason="needs numba")
SOURCES = ["numpy", pytest.param("numba", marks=needs_numba)]
SOME = ["rnn-relu", "lstm", "lstm-projected", "gru-before-keeps", "clockwork", "own", "own-dict", "nested-lstm",
        "normalized-own", "timeskip-3-own"]  # fmt: skip


def same(name, way, mode, order=1):
    """Values, and gradients with regard to all leaves, are those of the tape."""
    results = []
    for compiled in (False, mode):
        with tg.compiled(compiled):
            case = Case(name, WAYS[way][0])
            results.append(outcome(case, case.run(way, case.state), order))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=EXACT, atol=EXACT)


NEVER = {  # ways that have no program, and why
    ("variational", "reset"): "random numbers are drawn at each reset",
    ("nested", "reset"): "random numbers are drawn at each reset",
}


def reason(name, way):
    resets = "reset" in WAYS[way][2]
    return next((why for (part, _), why in NEVER.items() if resets and name.startswith(part)), None)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*CELLS, *CUT])
def test_numpys_source_computes_what_the_tape_does(name, way):
    if why := reason(name, way):
        with pytest.raises(Untraceable, match=why):
            same(name, way, "numpy")
    else:
        same(name, way, "numpy")


@needs_numba
@pytest.mark.parametrize("way", ["scan", "all-options"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in SOME else pytest.mark.slow) for n in [*CELLS, *CUT]])
def test_kernels_compute_what_the_tape_does(name, way):
    if not reason(name, way):
        same(name, way, "numba")


@pytest.mark.parametrize("name", ["lstm", "gru-after-keeps", "own", "zoneout-lstm"])
@pytest.mark.parametrize("way", ["scan", "all-options", "layers-lengths"])
def test_the_second_order_goes_by_the_tape(name, way):
    same(name, way, "numpy", order=2)
