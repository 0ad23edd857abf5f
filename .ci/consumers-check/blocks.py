"""Does docs/consumers.md show the examples as they are?

A fenced block that names a file after its language is that file, whole; one that says `part` behind it is lines of it, as they stand
there. Every example in Python is shown, every one in Java and every folder with a `run` linked. A block of JSON without a file is JSON. Then copies with one word
changed must be refused. `blocks.py --write` puts the files into their blocks instead.
"""

import json
import re
import sys
from pathlib import Path

GUIDE = Path("docs/consumers.md")
SHOWN = sorted(Path("examples").glob("python/*.py"))
LINKED = [*sorted(Path("examples").glob("java/src/main/java/*.java")), Path("examples/java/pom.xml"),
          *sorted(run.parent / "README.md" for run in Path("examples").glob("*/run"))]


BLOCK = re.compile(r"^```(\w+)(?: (\S+)( part)?)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def problems(text):
    found, shown = [], set()
    for language, name, part, block in BLOCK.findall(text):
        if part:
            if not Path(name).is_file() or f"\n{block}" not in Path(name).read_text():
                found.append(f"the block of {name} is no part of that file")
        elif name:
            shown.add(Path(name))
            if not Path(name).is_file() or Path(name).read_text() != block:
                found.append(f"the block of {name} is not that file")
        elif language == "json":
            try:
                json.loads(block)
            except ValueError as error:
                found.append(f"a block of JSON is none: {error}")
    found += [f"{path} is not shown" for path in SHOWN if path not in shown]
    found += [f"{path} is not linked" for path in LINKED if f"](../{path})" not in text]
    return found


def written(block):
    language, name, part, text = block.groups()
    return f"```{language} {name}\n{Path(name).read_text()}```" if name and not part else block[0]


text = GUIDE.read_text()
if sys.argv[1:] == ["--write"]:
    GUIDE.write_text(BLOCK.sub(written, text))
    sys.exit()
found = problems(text)
MISTAKES = [("isolation.level", "isolation_level"), ("accounts.pop", "accounts.get"), ("decoder.configure(", "decoder.setup("),
            ("java/Trail.java)", "java/Tail.java)"), ('"header.converter": ', '"header.converter" '), ("examples/flink/README", "examples/flinc/README")]
for right, wrong in MISTAKES if not found else []:
    if text.count(right) == 0 or not problems(text.replace(right, wrong)):
        found.append(f"a copy that says {wrong}: not refused")
if found:
    sys.exit("\n".join(f"error: {GUIDE}: {problem}" for problem in found))
print(f"{GUIDE} shows the {len(SHOWN)} examples in Python as they are and links the {len(LINKED)} others; "
      f"{len(MISTAKES)} changed copies were refused")
