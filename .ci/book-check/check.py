"""Is the book whole? Arguments: the project's root, the book. Every page of docs/ is in it and in its search, it loads nothing from
elsewhere, and every page and anchor of docs/ that other files name is there: runbooks of alerts, messages, comments.
"""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data", "video": "src"}
MENTION = re.compile(r"\bdocs/[\w./-]*\w\.(?:md|yaml|svg)(?:#[\w-]+)?")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get("id"))
        if LOADS.get(tag) in attributes:
            self.loads.append(attributes[LOADS[tag]] or "")


def is_elsewhere(address: str) -> bool:
    return bool(re.match(r"(?:https?:)?//", address))


def main(root: Path, book: Path) -> None:
    problems = []
    pages = {path.relative_to(book): Page(path.read_text()) for path in book.rglob("*.html")}
    for path, page in pages.items():
        problems += [f"{path} loads {address}" for address in page.loads if is_elsewhere(address)]
    for path in book.rglob("*.css"):
        loaded = re.findall(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s]+)", path.read_text())
        problems += [f"{path.relative_to(book)} loads {address}" for address in loaded if is_elsewhere(address)]

    search = (book / "searchindex.js").read_text()
    searched = set(json.loads(re.search(r'"?docnames"?:(\[[^\]]*\])', search)[1]))
    documents = [path.relative_to(root) for path in root.glob("docs/**/*.md")]
    for document in documents:
        if document.with_suffix(".html") not in pages or str(document.with_suffix("")) not in searched:
            problems.append(f"{document} is not in the book, or not in its search")

    mentions = 0
    for name in files(root):
        try:
            text = (root / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        for mention in MENTION.findall(text):
            mentions += 1
            target, _, anchor = mention.partition("#")
            if not (root / target).is_file():
                problems.append(f"{name}: there is no {target}")
            elif anchor and anchor not in pages[Path(target).with_suffix(".html")].ids:
                problems.append(f"{name}: {target} has no section #{anchor}")
    if not documents or not mentions:
        problems.append("nothing was found to look at")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{len(pages)} pages, {len(documents)} of them of docs/; {mentions} mentions of them in other files hold")


def files(root: Path) -> list[str]:
    """What belongs to the project, new files included. Links between pages are Sphinx's affair, mentions in their text are not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    # This folder's own mistakes are made on purpose.
    return [name for name in listed.split("\0") if name and not name.startswith(".ci/book")]


main(Path(sys.argv[1]), Path(sys.argv[2]))
