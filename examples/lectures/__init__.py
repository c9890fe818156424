"""The figures of the lectures, one script each: ``python -m examples.lectures``."""

import os

# Before NumPy is loaded: products of small matrices are fastest with one thread.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
