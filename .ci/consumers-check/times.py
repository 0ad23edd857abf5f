"""After how long does each example hold the portfolio of a topic at rest? times.py DIRECTORY ROWS NAME…

The source has filled the topics and ended before the first is started; each runs alone, and once before, on what it fetches or
compiles.
"""

import sys
from collections import Counter
from pathlib import Path

import world
from examples import TESTBED, Example, portfolio
from hold import hold, problems
from records import name_of, read_to_end

PROGRAM = "target/release/d02-source"
# The longest that the source may take to fill the topics.
FILLED = 900


def main():
    directory, rows, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    testbed = world.Testbed(TESTBED)
    upstream = world.Upstream(PROGRAM, rows // len(world.LENDERS), bad_rate=0)
    source = world.Source(PROGRAM, directory, testbed, upstream)
    final, _ = upstream.state()

    def is_filled():
        keys = {message.key() for message in read_to_end(testbed.servers, [name_of("accounts")], "read_committed")}
        return len(keys) == len(final)
    world.wait_for(f"{len(final)} accounts in the topic", FILLED, is_filled)
    source.end()
    upstream.end()
    expected = portfolio(final.values())
    del final

    for name in names:
        example = Example(name, directory, testbed)
        times = []
        for _ in range(2):
            lines, took = example.lines()
            found = Counter((line["currency"], line["accounts"], line["balance_minor"]) for line in lines)
            times.append(f"{took:.1f} s")
        hold(f"{name}: the portfolio of {sum(line['accounts'] for line in lines)} accounts, {' and '.join(times)}", expected, found)
    testbed.end()
    if problems:
        sys.exit(f"error: {len(problems)} of what the examples give is not true, or they failed; {directory} has the logs")


if __name__ == "__main__":
    main()
