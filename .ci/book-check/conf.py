"""How Sphinx makes the book: of README, CONTRIBUTING, CHANGELOG and every page under docs/ and examples/, as they are. A new page is in its
navigation by being there; a link to a page, an anchor or a file that is not there is a warning, and .ci/book takes none.
"""

from pathlib import Path

from docutils.nodes import inline, reference
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[2]
ABOUT = ["CONTRIBUTING", "CHANGELOG"]
# What stands first in its folder, and which folders stand first. The rest follows by name, the decisions at the end.
PAGES = ["architecture", "upstream-api", "records", "delivery", "interface", "consumers", "performance", "README"]
PAGES += ["running", "kafka", "commands", "topics", "log", "metrics", "alerts", "errors", "runbooks"]
FOLDERS = ["operations", "errors", "model"]
CAPTIONS = {"adr": "Decisions"}
# A folder with more pages than these and a README has them below that, folded.
LONG = 12

project = html_title = "d02-source"
extensions = ["myst_parser"]
root_doc = "README"
# Nothing else is looked at: target/ alone has thousands of files.
exclude_patterns = sorted({path.name for path in ROOT.iterdir()} - {"README.md", "docs", "examples"} - {f"{page}.md" for page in ABOUT})
# For links to headings, by the anchors that Git hosts make.
myst_heading_anchors = 6
# A shortened example need not be a program.
suppress_warnings = ["misc.highlighting_failure"]

# What stands there is meant: two hyphens are an option.
smartquotes = False

html_theme = "furo"
html_copy_source = html_show_sourcelink = html_show_copyright = html_show_sphinx = html_use_index = False


def setup(app) -> None:
    app.connect("source-read", add_navigation)
    app.add_post_transform(ToFolders)


def add_navigation(_app, page: str, source: list[str]) -> None:
    """The folders of docs/ go below the front page, the pages of a long folder below its README."""
    if page == root_doc:
        folders = [path for path in (ROOT / "docs").iterdir() if path.is_dir() and pages_of(path)]
        folders.sort(key=lambda path: (path.name == "adr", place(path.name, FOLDERS), path.name))
        source[0] += toctree("", pages_of(ROOT / "docs", below=False))
        for folder in folders:
            pages = pages_of(folder)
            source[0] += toctree(CAPTIONS.get(folder.name, folder.name.capitalize()), pages[:1] if is_folded(folder) else pages)
        source[0] += toctree("Examples", pages_of(ROOT / "examples"))
        source[0] += toctree("Project", ABOUT)
    elif page.endswith("/README") and is_folded((ROOT / page).parent):
        source[0] += toctree("", pages_of((ROOT / page).parent)[1:])


def is_folded(folder: Path) -> bool:
    return (folder / "README.md").is_file() and len(pages_of(folder)) > LONG


def pages_of(folder: Path, below: bool = True) -> list[str]:
    found = folder.glob("**/*.md" if below else "*.md")
    pages = [path.relative_to(ROOT).with_suffix("") for path in found]
    pages.sort(key=lambda page: (page.name != "README", place(page.name, PAGES), str(page)))
    return [str(page) for page in pages]


def place(name: str, first: list[str]) -> int:
    return first.index(name) if name in first else len(first)


def toctree(caption: str, pages: list[str]) -> str:
    lines = ["```{toctree}", ":hidden:", f":caption: {caption}" if caption else "", "", *(f"/{page}" for page in pages), "```"]
    return "\n\n" + "\n".join(lines) + "\n"


class ToFolders(SphinxPostTransform):
    """A link to a folder, which a Git host lists: to its first page if it is one of docs/, else no link, but no mistake either."""

    default_priority = 8  # Before MyST resolves what it knows, and calls the rest a mistake.

    def run(self, **_) -> None:
        for node in list(self.document.findall(pending_xref)):
            target = ROOT / Path(node.get("refdoc", "")).parent / node["reftarget"]
            if node["reftype"] != "myst" or "/" not in node["reftarget"] or not target.is_dir():
                continue
            pages = pages_of(target.resolve()) if target.resolve().is_relative_to(ROOT / "docs") else []
            link = reference(internal=True, refuri=self.app.builder.get_relative_uri(node["refdoc"], pages[0])) if pages else inline()
            link += node.children
            node.replace_self(link)
