"""What scripts that make many checks share: each check a line, the failures at the end.

Not a script.
"""

import importlib

FAILURES = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        print(f"skipped: {name} is not installed")
        return None
