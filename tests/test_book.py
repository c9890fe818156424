"""The book, before it is built: links lead somewhere, every page is reached, every figure has its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(p for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")] if "_build" not in p.parts)
SCRIPTS = sorted(ROOT.glob("examples/lectures/plot_*.py"))
GENERATED = ("gallery/", "reference/")  # by the build


def links(page: Path) -> list[str]:
    """Where a page's links and images lead, but those in its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        place = str(target.relative_to(ROOT))
        if figure := re.fullmatch(r"docs/gallery/images/sphx_glr_(plot_\w+)_\d{3}\.png", place):
            assert ROOT / "examples/lectures" / f"{figure[1]}.py" in SCRIPTS, link
        elif not place.startswith(tuple(f"docs/{folder}" for folder in GENERATED)):
            assert target.is_file() or (page.name == "README.md" and target.is_dir()), link
            if anchor:
                assert anchor in anchors(target), link


def test_every_page_is_reached():
    reached, found = set(), [ROOT / "docs/index.md"]
    while found:
        page = found.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        for block in re.findall(r"^```\{toctree\}(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M):
            entries = [line.strip() for line in block.splitlines()[1:] if line.strip() and not line.startswith(":")]
            found += [(page.parent / f"{entry}.md").resolve() for entry in entries]
    assert not {page for page in PAGES if page.name != "README.md"} - reached


def test_every_figure_has_a_place():
    text = "".join(page.read_text(encoding="utf-8") for page in ROOT.glob("docs/lectures/*.md"))
    assert SCRIPTS
    assert [script.stem for script in SCRIPTS if f"{script.name})" not in text] == []
