#!/usr/bin/env python3
"""docs/measurements/chaos.md from the results of `tests/chaos/run --results FILE`.

    tests/chaos/table.py RESULTS.jsonl COMMIT DATE CORES > docs/measurements/chaos.md

Of a seed that was run several times the last run counts.
"""

import collections
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import plan as plans  # noqa: E402

WORDS = {
    "die": "a sensor dies and is switched on later", "hang": "a sensor hangs (SIGSTOP)",
    "unplug": "a sensor's wire is pulled", "move": "a sensor comes from another port or address",
    "reboot": "a sensor starts again", "double": "two sensors under one number",
    "leave": "a sensor says bye and comes back", "late": "a sensor comes late", "all_die": "all sensors die",
    "host_kill": "`sfm-stream`: SIGKILL, start", "host_term": "`sfm-stream`: SIGTERM, start",
    "host_stop": "`sfm-stream`: SIGSTOP, SIGCONT", "patient": "another person, the same `--out`",
    "session_id": "SIGTERM, start with `--session`", "disk_full": "the disk is full, and has room again",
    "out_removed": "the folder is removed", "out_renamed": "the folder is renamed",
    "stderr_stalled": "nobody reads standard error", "clock_step": "the wall clock is set",
    "strangers": "strangers knock",
}


def row(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def table(results):
    yield row(["what happens", "scenarios", "of them hold"])
    yield row(["---"] * 3)
    for fault in plans.ALL:
        with_it = [line for line in results if fault in line["faults"]]
        yield row([WORDS[fault], len(with_it), sum(not line["broken"] for line in with_it)])
    for end, words in (("bye", "all sensors say bye"), ("term", "SIGTERM"), ("kill", "SIGKILL")):
        with_it = [line for line in results if line["end"] == end]
        yield row([f"it ends: {words}", len(with_it), sum(not line["broken"] for line in with_it)])


def broken(results):
    """What does not hold, by the invariant, with the seeds."""
    kinds = collections.defaultdict(set)
    for line in results:
        for text in line["broken"]:
            kinds[text.split(":")[0]].add(line["seed"])
    if kinds:
        yield ""
        yield row(["does not hold", "seeds"])
        yield row(["---"] * 2)
    for kind, seeds in sorted(kinds.items()):
        yield row([kind, ", ".join(map(str, sorted(seeds)))])


def main():
    path, commit, date, cores = sys.argv[1:]
    with open(path) as file:
        lines = [json.loads(line) for line in file]
    results = sorted({line["seed"]: line for line in lines}.values(), key=lambda line: line["seed"])
    holding = sum(not line["broken"] for line in results)
    faults = sum(len(line["faults"]) for line in results)
    seconds = sum(line["seconds"] for line in results)
    seeds = [line["seed"] for line in results]
    print("# Scenarios of faults\n")
    print(f"{len(results)} scenarios of `tests/chaos` (seeds {seeds[0]} to {seeds[-1]}), {faults} faults, on {date} at commit "
          f"`{commit}`, {cores} cores: **{holding} hold, {len(results) - holding} do not**. "
          f"{seconds / max(1, len(results)):.0f} s a scenario. What has to hold is in `configs/README.md`, *What is guaranteed*.\n")
    for line in [*table(results), *broken(results)]:
        print(line)


if __name__ == "__main__":
    main()
