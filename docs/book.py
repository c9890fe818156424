"""What the book needs beyond Sphinx: the style of its figures, the reference made from the package, links to source.

The reference is not written: each file of the package that has public names is a page of it, with what the file is for,
and each name that it exports. So it cannot lack one; and a reader of the reference learns where things are.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS = Path(__file__).parent
REPOSITORY = DOCS.parent

ROOMS = {  # what is imported from where, in the order of the rooms
    "tinygrad_rnn": "The engine and its operations",
    "tinygrad_rnn.nn": "Networks",
    "tinygrad_rnn.nn.init": "First weights",
    "tinygrad_rnn.compile": "Compiled loops",
    "tinygrad_rnn.bptt": "Back-propagation through time",
    "tinygrad_rnn.optim": "Optimisers",
    "tinygrad_rnn.analysis": "Analysis",
    "tinygrad_rnn.tasks": "Tasks",
    "tinygrad_rnn.train": "Training",
}


# Files that are looked into first, in this order; the others follow by their names
FIRST = [
    "tensor", "tape", "show", "recording", "transforms", "check", "debug", "modes", "ops.elementwise", "ops.reduction",
    "ops.shape", "ops.indexing", "ops.linear", "ops.activation", "nn.cells", "nn.recurrent", "nn.layers", "nn.networks",
    "nn.lstm", "nn.timescales", "nn.wrappers", "nn.residual", "nn.module", "nn.linear", "nn.embedding", "nn.norm",
    "nn.dropout", "nn.sequential", "nn.loss", "nn.watch", "nn.summary", "nn.exchange", "nn.reservoir", "nn.readout",
    "nn.echo_state", "nn.spectrum", "optim.optimizers", "train.loop", "analysis.flow", "analysis.jacobians",
]  # fmt: skip

# Whose methods are not listed again for each class that inherits them
BASES = "Tensor", "Module", "ABC", "Exception", "Sequence", "Mapping", "dict", "list", "tuple", "object"


def style(gallery: dict, name: str) -> None:
    """Before each script of the gallery: the figures of a book that is read by day and by night."""
    import matplotlib.pyplot as plt

    plt.close("all")
    plt.style.use(["default", DOCS / "book.mplstyle"])


def figures(block: Any, script: dict, gallery: dict) -> str:
    """After each block of a script of the gallery: its figures are saved, and none may have an empty panel."""
    import matplotlib.pyplot as plt
    from sphinx_gallery.scrapers import matplotlib_scraper

    from examples.lectures import blocks

    taken, earlier = list(map(plt.figure, plt.get_fignums())), script.setdefault("figures", [])
    try:
        if script["execute_script"]:  # of a block that failed the figures are not finished
            blocks.check(taken, earlier, f"{Path(script['src_file']).name}, the block at line {block.lineno}")
        shown = matplotlib_scraper(block, script, gallery)
    finally:
        plt.close("all")
    blocks.settle(taken)
    earlier += taken
    return shown


# The reference --------------------------------------------------------------------------------------------------------


def public(room: str) -> list[str]:
    """The public names of a room: functions, classes and constants, no modules."""
    module = importlib.import_module(room)
    names = getattr(module, "__all__", None) or [
        name for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room
    ]  # fmt: skip
    return [name for name in names if not isinstance(getattr(module, name), ModuleType)]


def homes() -> dict[tuple[str, str], str]:
    """Under which room a name is documented that several export: the one that has most of what is in its file."""
    exported: dict[str, list[tuple[str, str]]] = {}
    for room in ROOMS:
        for name in public(room):
            exported.setdefault(file_of(room, name), []).append((room, name))
    found = {}
    for module, pairs in exported.items():
        rooms = [room for room, _ in pairs]
        for room, name in sorted(pairs, key=lambda pair: rooms.count(pair[0]), reverse=True):
            found.setdefault((module, name), room)
    return found


def file_of(room: str, name: str) -> str:
    """The module that defines what a room exports."""
    return getattr(getattr(importlib.import_module(room), name), "__module__", room)


def reference() -> dict[str, str]:
    """A page for each file, and one for each room that lists its files."""
    pages, home = {}, homes()
    for room in ROOMS:
        files: dict[str, list[str]] = {}
        elsewhere = []
        for name in public(room):
            module = file_of(room, name)
            if home[module, name] == room:
                files.setdefault(module, []).append(name)
            else:
                elsewhere.append(f"``{name}`` is :py:obj:`{home[module, name]}.{name}`.")
        entries, listed = [], []
        for module, names in sorted(files.items(), key=lambda item: place(item[0])):
            page = f"{room}-{module.removeprefix('tinygrad_rnn.')}" if module != room else f"{room}-package"
            title, context = heading(module, "="), f".. py:currentmodule:: {room}\n"
            pages[page] = "\n".join([title, context, *summary(module), *(entry(room, name) for name in names)])
            entries.append(page)
            shown = ", ".join(f":py:obj:`~{room}.{name}`" for name in names)
            listed.append(f":doc:`{page}`\n   {summary(module)[0].splitlines()[0]}\n\n   {shown}\n")
        also = " ".join([f"Import from ``{room}``.", *elsewhere]) + "\n"
        pages[room] = "\n".join([heading(ROOMS[room], "="), also, *listed, toctree(entries, hidden=True)])
    about = (
        "What the package exports, by the rooms of the house; within a room, by the file where it is written. "
        "By name: :ref:`genindex`.\n"
    )
    return pages | {"index": "\n".join([heading("Reference", "="), about, toctree(ROOMS)])}


def place(module: str) -> tuple:
    """Where a file stands in the list of its room."""
    name = module.removeprefix("tinygrad_rnn.")
    return (FIRST.index(name), "") if name in FIRST else (len(FIRST), name)


def write_reference(app: Any = None) -> None:
    """Write the pages; what is unchanged is not written again."""
    pages, folder = reference(), DOCS / "reference"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def entry(room: str, name: str) -> str:
    value = getattr(importlib.import_module(room), name)
    if inspect.isclass(value):
        lines = [f".. autoclass:: {room}.{name}", ":members:", f":inherited-members: {', '.join(BASES)}"]
        if fields := getattr(value, "_fields", None):  # of a named tuple: its docstring has them
            lines.append(f":exclude-members: {', '.join(fields)}")
        return "\n   ".join(lines) + "\n"
    return f".. autofunction:: {room}.{name}\n" if callable(value) else f".. autodata:: {room}.{name}\n"


def summary(module: str) -> list[str]:
    """What the file says of itself."""
    return [inspect.cleandoc(importlib.import_module(module).__doc__ or ""), ""]


def heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def toctree(pages: Any, hidden: bool = False) -> str:
    options = ["   :hidden:"] if hidden else ["   :maxdepth: 1"]
    return "\n".join([".. toctree::", *options, "", *(f"   {page}" for page in pages), ""])


# Links to source ------------------------------------------------------------------------------------------------------


def link_source(app: Any, doctree: Any, docname: str) -> None:
    """A link to a file of the package leads to its highlighted source; one to a script of the gallery, to its page."""
    from docutils import nodes
    from sphinx.addnodes import download_reference
    from sphinx.util.osutil import relative_uri

    for node in list(doctree.findall(download_reference)):
        path = (DOCS / docname).parent / node["reftarget"]
        target = page_of(app, path.resolve())
        if target is not None:
            uri = relative_uri(app.builder.get_target_uri(docname), target)
            node.replace_self(nodes.reference("", "", *node.children, refuri=uri, internal=True))


def page_of(app: Any, path: Path) -> str | None:
    """The page of the book that shows a file of the repository."""
    if not path.is_relative_to(REPOSITORY) or path.suffix != ".py":
        return None
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    if parts[:2] == ("examples", "lectures") and path.name.startswith("plot_"):
        return f"gallery/{parts[-1]}.html"
    module = ".".join(parts).removesuffix(".__init__")
    shown = getattr(app.env, "_viewcode_modules", {}).get(module)
    return f"_modules/{module.replace('.', '/')}.html" if shown else None


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", write_reference, priority=100)
    app.connect("doctree-resolved", link_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
