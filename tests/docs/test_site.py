"""The site: it builds strictly, loads nothing from elsewhere, links lead somewhere, and every public name is in it."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown.extensions.toc import slugify

import mongopatterns
import mongopatterns.testing
import mongopatterns.typing
from mongopatterns import errors

ROOT = Path(__file__).parents[2]
# Pages that are read as files too, where no build checks their links.
PLAIN_PAGES = sorted(
    str(page.relative_to(ROOT)) for pattern in ("*.md", "examples/**/*.md") for page in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# Where a name is documented: under the last of these that has it.
PUBLIC = {
    name: f"{module.__name__}.{name}"
    for module in (mongopatterns.typing, mongopatterns.testing, mongopatterns)
    for name in module.__all__
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, into a place of its own."""
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return target


class _Elements(HTMLParser):
    """Collect what a browser loads with a page, and the anchors of the page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.classes: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors.add(attributes.get("id", ""))
        self.classes.update(attributes.get("class", "").split())
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag == "link" and attributes.get("rel") not in ("canonical", "prev", "next", "edit"):
            self.loaded.append(attributes.get("href", ""))
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed", "object"):
            self.loaded += [attributes[name] for name in ("src", "data") if name in attributes]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, _Elements]:
    """Read every page of the site."""
    return {page: _Elements(page) for page in site.rglob("*.html")}


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, _Elements]) -> None:
    """A page can be read without a network: no fonts, scripts, styles or pictures of others."""
    assert pages
    assert [url for page in pages.values() for url in page.loaded if re.match(r"(https?:)?//", url)] == []
    assert not any("mermaid" in page.classes for page in pages.values()), "the theme would fetch a library for diagrams"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8"))


def test_every_internal_link_of_the_site_leads_somewhere(site: Path, pages: dict[Path, _Elements]) -> None:
    """A link to a page, a file or a heading of the site finds it, also one of a docstring or of the theme."""
    found = 0
    for page, elements in pages.items():
        for link in elements.links:
            path, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", path) or (page.name == "404.html" and path.startswith("/")):
                continue
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            where = f"{page.relative_to(site)} links to {link}"
            assert target.is_relative_to(site), where
            assert target.is_file(), where
            assert not anchor or target.suffix != ".html" or anchor in pages[target].anchors, where
            found += 1
    assert found > 1000


@pytest.fixture(scope="module")
def documented(site: Path, pages: dict[Path, _Elements]) -> dict[str, list[str]]:
    """Collect the anchors of the reference, with the pages that have them."""
    anchors: dict[str, list[str]] = {}
    for page in sorted((site / "reference").rglob("*.html")):
        for anchor in pages[page].anchors:
            anchors.setdefault(anchor, []).append(page.parent.name)
    return anchors


@pytest.mark.parametrize("name", sorted(PUBLIC.values()))
def test_the_reference_has_every_public_name(name: str, documented: dict[str, list[str]]) -> None:
    """What can be imported can be looked up, in one place."""
    assert len(documented.get(name, ())) == 1, f"{name} is documented on {documented.get(name, 'no page')}"


def test_the_tree_of_errors_is_the_one_in_the_source() -> None:
    """The picture on the page is that of the module, and has every error."""
    fence = re.compile(r"```(?:text)?\n(MongoPatternsError\n.*?)```", re.DOTALL)
    [tree] = fence.findall((ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8"))
    assert [tree] == fence.findall(inspect.getdoc(errors) or "")
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {value.__name__ for value in classes if issubclass(value, errors.MongoPatternsError)} == set(
        re.findall(r"^[│├└─\s]*(\w+)", tree, re.MULTILINE)
    )


def test_the_search_finds_pages_and_public_names(site: Path) -> None:
    """What a reader types into the search is in its index: each page, and each name of the reference."""
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    assert {entry["location"].partition("#")[0] for entry in index} >= {
        "" if page.stem == "index" else f"{page.relative_to(ROOT / 'docs').with_suffix('').as_posix()}/"
        for page in (ROOT / "docs").rglob("*.md")
    }
    titles = " ".join(entry["title"] for entry in index)
    assert [name for name in mongopatterns.__all__ if name not in titles] == []


def test_every_page_is_in_the_navigation(site: Path) -> None:
    """A page that nobody can reach is no page."""
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        address = page.relative_to(ROOT / "docs").with_suffix("").as_posix()
        if address != "index":
            assert f'href="{address}/"' in home, f"{page} is missing in the navigation of mkdocs.yml"


def _relative_links(page: Path) -> Iterator[tuple[str, str]]:
    for match in LINK.finditer(FENCED.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", match["target"]):
            path, _, anchor = match["target"].partition("#")
            yield path, anchor


def _anchors(page: Path) -> set[str]:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    return {slugify(heading.replace("`", ""), "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("name", PLAIN_PAGES)
def test_the_links_of_a_plain_page_lead_somewhere(name: str) -> None:
    """What the README links to is there, down to the heading."""
    page = ROOT / name
    for path, anchor in _relative_links(page):
        target = page.parent / path if path else page
        assert target.exists(), f"{name} links to {path}"
        assert not anchor or anchor in _anchors(target), f"{name} links to {path}#{anchor}"


@pytest.mark.parametrize("page", [ROOT / name for name in PLAIN_PAGES] + sorted((ROOT / "docs").rglob("*.md")), ids=str)
def test_a_page_names_no_place_of_its_author(page: Path) -> None:
    """A page holds no path of a machine."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.])/(home|root|Users|work|tmp)/", text)
