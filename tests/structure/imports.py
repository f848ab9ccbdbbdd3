#!/usr/bin/env python3
"""No modules of one crate import each other in a circle.

    tests/structure/imports.py [--within MODULE] [SRC...]      default: the runtime and its crates

Modules are those at the top of a crate; with `--within link` those inside the module `link`. Test modules
do not count. Prints every circle with the files that close it; exit code 1 if there is one.
"""

import argparse
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRATES = ["runtime/src", "runtime/edf/src", "runtime/hypnogram/src"]
NOT_MODULES = {"lib", "main", "bin", "mod"}


def is_test(path):
    return path.stem in ("tests", "skip") or path.stem.endswith("_tests")


def code_of(path):
    """The file without comments and without its tests."""
    text = path.read_text().split("#[cfg(test)]\nmod tests {")[0]
    return re.sub(r"//[^\n]*", "", text)


def split_braces(inside):
    """The parts of `a::b, c::{d, e}` between commas at the outermost level."""
    depth, part = 0, ""
    for letter in inside + ",":
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            yield part.strip()
            part = ""
        else:
            part += letter


def named(code, prefix):
    """The modules that code names after `prefix::`, in imports and in paths."""
    for found in re.finditer(re.escape(prefix) + r"::(?:(\w+)|\{)", code):
        if found.group(1):
            yield found.group(1)
            continue
        end, depth = found.end(), 1
        while depth:
            depth += {"{": 1, "}": -1}.get(code[end], 0)
            end += 1
        for part in split_braces(code[found.end():end - 1]):
            if part:
                yield re.match(r"\w+", part).group()


def graph_of(source, within):
    """Of every module the modules that it imports, with the files that do."""
    top = source / within if within else source
    modules = {path.stem for path in top.iterdir() if not is_test(path)} - NOT_MODULES
    graph = {module: {} for module in modules}
    for path in sorted(top.rglob("*.rs")):
        parts = path.relative_to(top).with_suffix("").parts
        module = parts[0]
        if module not in modules or is_test(path):
            continue
        code = code_of(path)
        names = list(named(code, f"crate::{within}" if within else "crate"))
        if within:
            # `super` of a file directly in the module; one more for each folder below.
            names += named(code, "::".join(["super"] * len(parts)))
        for name in names:
            if name in modules and name != module:
                graph[module].setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return graph


def circles(graph):
    """Strongly connected components of more than one module (Tarjan)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in graph[module]:
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            place = stack.index(module)
            component = set(stack[place:])
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for module in sorted(graph):
        if module not in number:
            visit(module)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--within", default="")
    parser.add_argument("source", nargs="*", type=pathlib.Path, default=[ROOT / crate for crate in CRATES])
    args = parser.parse_args()
    broken = 0
    for source in args.source:
        graph = graph_of(source.resolve(), args.within)
        for circle in circles(graph):
            broken = 1
            print(f"{source}: a circle of {', '.join(sorted(circle))}")
            for module in sorted(circle):
                for other in sorted(circle & graph[module].keys()):
                    print(f"  {module} -> {other}: {', '.join(sorted(graph[module][other]))}")
        print(f"{source}: {len(graph)} modules")
    return broken


if __name__ == "__main__":
    sys.exit(main())
