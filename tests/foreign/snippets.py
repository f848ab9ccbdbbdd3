"""Runs README's lines for pandas, MNE, YASA and R in output folders.

    snippets.py OUT...    every block of README marked as python or r, in a copy of each folder

R's lines are skipped where Rscript is missing, Python's where a package is.
"""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
# Ten lines and an empty one.
MOST_LINES = 11
FAILURES = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def blocks():
    return re.findall(r"^```(python|r)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def run(language, code, folder):
    name = f"{language}: {code.strip().splitlines()[0]} ..."
    program = sys.executable if language == "python" else shutil.which("Rscript")
    if program is None:
        print(f"skipped: {name} (no Rscript; Debian's package r-base-core has it)")
        return
    script = pathlib.Path(folder) / "snippet"
    script.write_text(code)
    done = subprocess.run([program, script], cwd=folder, capture_output=True, text=True)
    if missing := re.search(r"No module named '(\S+)'", done.stderr):
        print(f"skipped: {name} ({missing[1]} is not installed)")
        return
    ok = done.returncode == 0 and done.stdout.strip() != ""
    check(name if ok else f"{name} {done.stderr[-300:]}", ok)


def main(arguments):
    if not arguments:
        print(__doc__)
        return 2
    found = blocks()
    check("README has lines for Python (three) and R", [l for l, _ in found].count("python") >= 3
          and "r" in [l for l, _ in found])
    check("ten lines each", all(len(code.splitlines()) <= MOST_LINES for _, code in found))
    for out in arguments:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(out, folder, dirs_exist_ok=True)
            for language, code in found:
                run(language, code, folder)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
