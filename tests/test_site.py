"""The docs as a site: built without a warning, whole, and made of nothing from elsewhere."""

import os
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from factories import PROJECT

SPHINX = PROJECT / ".venv-docs/bin/python"
DOCS = PROJECT / "docs"
#: What makes a browser fetch something, by the tag and the attribute that says what.
LOADING = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src")}
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch"}

pytestmark = pytest.mark.skipif(
    not SPHINX.exists() and "CI" not in os.environ, reason="make has not installed Sphinx"
)


class Page(HTMLParser):
    """What a page loads, where it links to, and the anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        self.loads += [values[name] for of, name in LOADING if of == tag and name in values]
        if tag == "link" and LOADING_LINKS & set(values["rel"].split()):
            self.loads.append(values["href"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [SPHINX, *("-m", "sphinx", "--quiet", "--fail-on-warning", "--nitpicky"), DOCS, folder],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {path: Page(path) for path in folder.rglob("*.html")}


def test_every_page_is_in_the_site(site: dict[Path, Page]) -> None:
    (index,) = (path for path in site if path.name == "index.html" and "decisions" not in str(path))
    root = index.parent
    written = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert written <= {path.relative_to(root) for path in site}
    in_menu = {link.partition("#")[0] for link in site[index].links}
    assert {str(path) for path in written if path != Path("index.html")} <= in_menu | {
        str(path) for path in written if path.parent.name == "decisions"
    }


def test_every_link_within_the_site_leads_somewhere(site: dict[Path, Page]) -> None:
    followed = 0
    for path, page in site.items():
        for link in page.links:
            if urlsplit(link).scheme:
                continue
            address, anchor = urldefrag(link)
            target = (path.parent / unquote(address)).resolve() if address else path
            assert target.exists(), (path.name, link)
            if anchor and target in site:
                assert unquote(anchor) in site[target].anchors, (path.name, link)
            followed += 1
    assert followed > 300


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Page]) -> None:
    loaded = [load for page in site.values() for load in page.loads]
    assert len(loaded) > 20
    assert [load for load in loaded if urlsplit(load).netloc] == []
    (root,) = {path.parent for path in site if path.name == "genindex.html"}
    for sheet in root.rglob("*.css"):
        text = sheet.read_text()
        assert "@import" not in text
        assert "url(http" not in text
        assert "url(//" not in text
