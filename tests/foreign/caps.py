#!/usr/bin/env python3
"""The caps of `runtime/src/montage/caps.rs` beside MNE's montages.

    tests/foreign/caps.py

BioSemi's caps of 32 and 64 have MNE's order. Sites of EGI's nets are their makers' choice among electrodes
that lie on no site exactly: each is within 25 degrees of it on the head. What is offered near C3 and C4 in
BioSemi's larger caps is within 15 degrees, on the right side.
"""

import pathlib
import re
import sys
import warnings

try:
    import mne
    import numpy as np
except ImportError:
    print("skipped: MNE is not installed")
    sys.exit(0)

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "runtime/src/montage/caps.rs"
NET_DEGREES, NEAR_DEGREES = 25.0, 15.0
ELSEWHERE = {"M1": "A1", "M2": "A2"}


def montage(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mne.channels.make_standard_montage(name)


def directions(name):
    positions = montage(name).get_positions()["ch_pos"]
    return {label: place / np.linalg.norm(place) for label, place in positions.items()}


def degrees(a, b):
    return float(np.degrees(np.arccos(np.clip(a @ b, -1.0, 1.0))))


def main():
    source = SOURCE.read_text()
    wrong = []
    for constant, name in [("BIOSEMI_32", "biosemi32"), ("BIOSEMI_64", "biosemi64")]:
        ours = re.search(constant + r': &str = "([^"]*)"', source).group(1).split()
        theirs = montage(name).ch_names
        if ours != theirs[:len(ours)]:
            wrong.append(f"{constant} is not in {name}'s order")
        print(f"{constant}: {len(ours)} electrodes as in {name}")
    sites = directions("standard_1020")
    for constant, name in [("EGI_128", "GSN-HydroCel-128"), ("EGI_256", "GSN-HydroCel-256")]:
        table = re.search(constant + r": \[.*?\] = \[(.*?)\];", source, re.DOTALL).group(1)
        net, worst = directions(name), (0.0, "")
        for number, site in re.findall(r'\((\d+), "(\w+)"\)', table):
            apart = degrees(net[f"E{number}"], sites.get(site, sites[ELSEWHERE.get(site, site)]))
            worst = max(worst, (apart, f"E{number} and {site}"))
        print(f"{constant}: at most {worst[0]:.1f} degrees apart ({worst[1]})")
        if worst[0] > NET_DEGREES:
            wrong.append(f"{constant}: {worst[1]} are {worst[0]:.1f} degrees apart")
    for size in ["128", "160", "256"]:
        left, right = re.search(rf'"BioSemi cap of {size}", &\["(\w+)", "(\w+)"\]', source).groups()
        cap = directions(f"biosemi{size}")
        apart = [degrees(cap[left], sites["C3"]), degrees(cap[right], sites["C4"])]
        print(f"BioSemi {size}: {left} is {apart[0]:.1f} degrees from C3, {right} {apart[1]:.1f} from C4")
        if max(apart) > NEAR_DEGREES:
            wrong.append(f"BioSemi {size}: {left} or {right} is not near C3 and C4")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
