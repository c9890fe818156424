"""How the book is built: ``python -m sphinx -W docs docs/_build``. What is not Sphinx's own is in ``book.py``."""

import logging
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import tinygrad_rnn  # noqa: E402

logging.getLogger("tinygrad_rnn").setLevel(logging.WARNING)  # which way each scan went: Sphinx would print it

project, author, copyright = "tinygrad_rnn", "The tinygrad_rnn developers", "The tinygrad_rnn developers"
version = release = tinygrad_rnn.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
    "book",
]
exclude_patterns = ["_build", "gallery/**/*.ipynb", "**/sg_execution_times.rst", "sg_execution_times.rst"]
nitpicky = True  # a reference that leads nowhere is a warning, and a warning is an error
nitpick_ignore = [("py:exc", "numpy.linalg.LinAlgError")]
nitpick_ignore_regex = [("py:class", r"(?![A-Z]\w*$|tinygrad_rnn\.).*")]  # types are prose: "array, (T, B, F)"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more than the annotations do
autodoc_inherit_docstrings = False
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": ["../examples/lectures"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^(?!plot_)",
    "image_scrapers": ("book.figures",),
    "reset_modules": ("matplotlib", "book.style"),
    "min_reported_time": 1e6,
    "show_memory": False,
    "download_all_examples": False,
    "image_srcset": [],
}

html_theme = "furo"
html_title = "tinygrad_rnn"
html_static_path = []
