"""What every test runs with: the backends, the profiles of Hypothesis, and the watch over global state."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
import types
from collections import OrderedDict

# Two workers and their products' threads would wait for each other; to be said before NumPy is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import fakecupy
import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("pr", derandomize=True, max_examples=50, deadline=None)
hypothesis.settings.register_profile("dev", max_examples=20, deadline=None)
hypothesis.settings.register_profile("nightly", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pr"))


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run the tests marked slow, too")
    parser.addoption(
        "--compiled",
        choices=["numpy", "numba", "kernels"],
        help="compile every scan that can be, however short (kernels: Numba's source, but run by Python, at once)",
    )


def pytest_collection_modifyitems(config, items):
    skips = {}
    if not config.getoption("--runslow"):
        skips["slow"] = pytest.mark.skip(reason="slow: run with --runslow")
    if not gpu_is_there():
        skips["gpu"] = pytest.mark.skip(reason="needs CuPy and a GPU")
    for item in items:
        for name, skip in skips.items():
            if name in item.keywords:
                item.add_marker(skip)


def gpu_is_there() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return cupy.cuda.is_available()


@pytest.fixture(params=["numpy", "fakecupy", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request):
    """The module to make arrays with (``xp.asarray``): NumPy, the strict stand-in for CuPy, and CuPy where it is."""
    if request.param == "numpy":
        yield np
    elif request.param == "cupy":
        yield pytest.importorskip("cupy")
    else:
        with fakecupy.installed() as cupy:
            yield cupy


@pytest.fixture(autouse=True)
def _scans(request, monkeypatch):
    """Run scans as --compiled says: by programs of that kind, wherever there can be one."""
    if (source := request.config.getoption("--compiled")) and not request.node.get_closest_marker("tape"):
        compile = importlib.import_module("tinygrad_rnn.compile")
        monkeypatch.setattr(compile, "SHORT", 0)
        monkeypatch.setattr(compile, "has_numba", lambda: source != "numpy")
        if source == "kernels":
            request.getfixturevalue("uncompiled")


UNCOMPILED = OrderedDict()  # programs, kept from one test to the next


@pytest.fixture
def uncompiled(monkeypatch):
    """Kernels are run by Python, as they are written: thousands of them in the time in which Numba compiles one."""
    from tinygrad_rnn.compile import program, scanning

    monkeypatch.setattr(importlib.import_module("tinygrad_rnn.compile"), "has_numba", lambda: True)

    def module_of(source):
        plain = source.replace(
            "from numba import njit, types\n", "njit = lambda **options: lambda function: function\n"
        )
        assert plain != source
        exec(f"CACHE = False\n{plain}", (module := types.ModuleType("kernels")).__dict__)
        return module

    monkeypatch.setattr(program, "module_of", module_of)
    monkeypatch.setattr(program, "has_product", lambda: False)
    monkeypatch.setattr(scanning, "PROGRAMS", UNCOMPILED)


@pytest.fixture(autouse=True)
def _nothing_leaks():
    """No test may leave a mode of recording, NumPy's error state or the collector otherwise than it found them."""

    def state():
        mode = sys.modules["tinygrad_rnn.modes"]._mode.get() if "tinygrad_rnn.tape" in sys.modules else None
        return mode, np.geterr(), gc.isenabled(), sys.modules.get("cupy")

    before = state()
    yield
    after = state()
    assert after[0] is None, "a recording mode (no_grad, anomaly, ...) is still on after the test"
    assert after[1:3] == before[1:3], "NumPy's error state, or whether the collector is on, was changed by the test"
    assert after[3] is not fakecupy.cupy, "the stand-in for CuPy is still installed after the test"
