"""Published results, reproduced: ``python -m examples.reproduce`` runs them, and writes docs/results.md."""

import os

# Before NumPy is loaded: products of small matrices are fastest with one thread, and each job is to have one core.
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
