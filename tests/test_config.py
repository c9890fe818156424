"""What there is, is shown as it is; and a hint is given where, and only where, a better choice is known."""

import glob
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import config as module
from tinygrad_rnn.config import cache_folder, config, hints, openblas, show_config

HAS_OPENBLAS = bool(glob.glob(f"{Path(np.__file__).parent}.libs/*openblas*"))
ADVICE = "AVX-512"


def test_all_that_is_found_is_printed(capsys):
    assert show_config() is None
    printed = capsys.readouterr().out
    found = config()
    assert found["NumPy"] == np.__version__ and found["tinygrad_rnn"] == tg.__version__
    for name, value in found.items():
        if name != "hints":
            assert f"{name:<18}{'-' if value is None else value}\n" in printed
    assert all(f"Hint: {hint}\n" in printed for hint in found["hints"])


@pytest.mark.skipif(not HAS_OPENBLAS, reason="NumPy has another BLAS here")
def test_openblas_says_what_it_chose():
    found = config()
    assert found["BLAS"].startswith("OpenBLAS 0.") and found["its kernels"] and found["its threads"] >= 1


def in_new_process(**environment):
    command = "from tinygrad_rnn.config import config, hints; c = config(); print(c['its kernels'], c['its threads']); "
    command += "print(c['environment']); print(*c['hints'])"
    run = subprocess.run(
        [sys.executable, "-c", command], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return run.stdout.split("\n", 2)


@pytest.mark.skipif(not HAS_OPENBLAS or not module.has_avx512(), reason="there is no such choice here")
def test_the_advice_can_be_followed():
    kernels, said, rest = in_new_process(OPENBLAS_CORETYPE="Haswell", OPENBLAS_NUM_THREADS="1")
    assert kernels == "Haswell 1" and ADVICE in rest
    assert "OPENBLAS_NUM_THREADS=1" in said and "OPENBLAS_CORETYPE=Haswell" in said
    kernels, said, rest = in_new_process(OPENBLAS_CORETYPE="SKYLAKEX", OPENBLAS_NUM_THREADS="1")
    assert kernels.lower() == "skylakex 1" and ADVICE not in rest


@pytest.mark.parametrize(("kernels", "avx512", "advised"), [
    ("Haswell", True, True), ("Zen", True, True), ("Haswell", False, False), ("SkylakeX", True, False),
    (None, True, False),
])  # fmt: skip
def test_kernels_are_advised_where_the_processor_has_them(monkeypatch, kernels, avx512, advised):
    monkeypatch.setattr(module, "has_avx512", lambda: avx512)
    assert any(ADVICE in hint for hint in hints(kernels, "0.68")) is advised


@pytest.mark.parametrize(
    ("said", "remedy"), [("Haswell", "unset OPENBLAS_CORETYPE"), (None, "export OPENBLAS_CORETYPE=SKYLAKEX")]
)
def test_the_advice_is_to_take_back_what_was_said_or_to_say_it(monkeypatch, said, remedy):
    monkeypatch.setattr(module, "has_avx512", lambda: True)
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    if said:
        monkeypatch.setenv("OPENBLAS_CORETYPE", said)
    [hint] = hints("Haswell", "0.68")
    assert remedy in hint


def test_numba_is_advised_where_it_is_missing():
    assert any("tinygrad_rnn[fast]" in hint for hint in hints(None, None))
    assert not hints(None, "0.68")


def test_another_blas_is_named_by_what_numpy_was_built_with(monkeypatch):
    monkeypatch.setattr(module, "openblas", lambda what, kind: None)
    found = config()
    assert found["its kernels"] is None and found["its threads"] is None and found["BLAS"]


def test_a_numpy_that_is_no_library_is_no_error(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy._core._multiarray_umath")
    assert openblas("config", None) is None


def test_the_cache_is_where_it_was_told_to_be(monkeypatch, tmp_path):
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path and config()["compiled kernels"] == str(tmp_path)
    monkeypatch.delenv("TINYGRAD_RNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinygrad_rnn"
