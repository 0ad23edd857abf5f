"""What is to be, against what was found. What differs is said, and kept in `problems`."""

from collections import Counter

problems = []


def hold(what, expected, found):
    if expected == found:
        print(f"  ✓ {what}", flush=True)
        return
    problems.append(what)
    print(f"  ✗ {what}")
    if isinstance(expected, Counter) and isinstance(found, Counter):
        expected, found = expected - found, found - expected
    print(f"    expected {str(expected)[:600]}\n    found    {str(found)[:600]}")
