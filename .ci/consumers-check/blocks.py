"""Does docs/consumers.md show the examples as they are?

A fenced block that names a file after its language is that file, whole. Every example is shown. A block of JSON without a file
is JSON. Then a copy with one word changed must be refused. `blocks.py --write` puts the files into their blocks instead.
"""

import json
import re
import sys
from pathlib import Path

GUIDE = Path("docs/consumers.md")
EXAMPLES = [path for pattern in ("python/*.py", "java/src/main/java/*.java", "java/pom.xml") for path in Path("examples").glob(pattern)]


BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def problems(text):
    found, shown = [], set()
    for language, name, block in BLOCK.findall(text):
        if name:
            shown.add(Path(name))
            if not Path(name).is_file() or Path(name).read_text() != block:
                found.append(f"the block of {name} is not that file")
        elif language == "json":
            try:
                json.loads(block)
            except ValueError as error:
                found.append(f"a block of JSON is none: {error}")
    found += [f"{path} is not shown" for path in EXAMPLES if path not in shown]
    return found


def written(block):
    language, name, text = block.groups()
    return f"```{language} {name}\n{Path(name).read_text()}```" if name else block[0]


text = GUIDE.read_text()
if sys.argv[1:] == ["--write"]:
    GUIDE.write_text(BLOCK.sub(written, text))
    sys.exit()
found = problems(text)
if not found and not problems(text.replace("isolation.level", "isolation_level", 1).replace("accounts.pop", "accounts.get", 1)):
    found = ["a changed block: not refused"]
if found:
    sys.exit("\n".join(f"error: {GUIDE}: {problem}" for problem in found))
print(f"{GUIDE} shows the {len(EXAMPLES)} files of the examples as they are; a changed copy was refused")
