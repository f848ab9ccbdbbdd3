"""Reads what the sinks wrote about the hypnogram with software that is not ours.

    hypnogram.py OUT...                 hypnogram.edf through MNE, pyedflib and edfio gives the stages
                                        of hypnogram.csv; night.json's statistics are YASA's
    hypnogram.py --write-goldens FILE   ten pseudo-random hypnograms and YASA's statistics of them

Needs mne, pyedflib, edfio, yasa; one that is not installed is reported as skipped.
"""

import csv
import json
import math
import pathlib
import sys
import warnings

from checks import FAILURES, check, installed

import numpy as np

TO_YASA = {"W": "WAKE", "N1": "N1", "N2": "N2", "N3": "N3", "R": "REM", "?": "UNS"}


def by_mne(path):
    mne = installed("mne")
    if mne is None:
        return None
    found = mne.read_annotations(str(path))
    return list(zip(found.onset, found.duration, found.description))


def by_pyedflib(path):
    pyedflib = installed("pyedflib")
    if pyedflib is None:
        return None
    with pyedflib.EdfReader(str(path)) as reader:
        return list(zip(*reader.readAnnotations()))


def by_edfio(path):
    edfio = installed("edfio")
    if edfio is None:
        return None
    found = edfio.read_edf(path).annotations
    return [(a.onset, a.duration, a.text) for a in found]


def check_edf(out, rows):
    want = [(float(r["onset_s"]), f"Sleep stage {r['stage']}") for r in rows]
    for read in (by_mne, by_pyedflib, by_edfio):
        found = read(out / "hypnogram.edf")
        if found is None:
            continue
        name = read.__name__
        got = [(float(onset), str(text)) for onset, _, text in found]
        check(f"{name}: {len(rows)} epochs, onset and text as in hypnogram.csv", got == want)
        check(f"{name}: every epoch lasts 30 s", all(float(d) == 30.0 for _, d, _ in found))


def yasa_statistics(stages):
    yasa = installed("yasa")
    if yasa is None:
        return None
    values = [TO_YASA[s] for s in stages]
    hypnogram = yasa.Hypnogram(values, n_stages=5, freq="30s")
    return {k: float(v) for k, v in hypnogram.sleep_statistics().items()}


def compare(name, ours, yasa):
    """YASA counts REM latency from lights out, and WASO only up to the last epoch of sleep."""
    nan = math.nan
    pick = lambda value: nan if value is None else value
    pairs = {
        "TRT": (ours["trt_min"], yasa["TIB"]),
        "TST": (ours["tst_min"], yasa["TST"]),
        "SPT": (ours["spt_min"], yasa["SPT"]),
        "efficiency": (pick(ours["sleep_efficiency_pct"]), yasa["SE"]),
        "SOL": (pick(ours["sol_min"]), yasa["SOL"]),
        "REM latency": (pick(ours["rem_latency_min"]), yasa["Lat_REM"] - yasa["SOL"]),
        "WASO": (pick(ours["waso_min"]) - pick(ours["terminal_wake_min"]), yasa["WASO"]),
        "?": (ours["unscored_min"], yasa.get("UNS", 0.0)),
    }
    for stage, theirs in list(TO_YASA.items())[:5]:
        pairs[f"{stage} min"] = (ours["stage_min"][stage], yasa[theirs])
        if stage != "W":
            pairs[f"{stage} %"] = (pick(ours["stage_pct_of_tst"][stage]), yasa[f"%{theirs}"])
    wrong = [k for k, (a, b) in pairs.items() if not np.isclose(a, b, atol=1e-4, equal_nan=True)]
    check(f"{name}: {len(pairs)} statistics as YASA's {wrong or ''}", not wrong)


def check_out(out):
    with open(out / "hypnogram.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    check(f"{out}: epochs count from 0 in steps of 30 s",
          [(int(r["epoch"]), float(r["onset_s"])) for r in rows]
          == [(i, 30.0 * i) for i in range(len(rows))])
    check_edf(out, rows)
    night = json.loads((out / "night.json").read_text())
    first, end = night["counted_epochs"]
    yasa = yasa_statistics([r["stage"] for r in rows[first:end]])
    if yasa is not None:
        compare("night.json", night["statistics"], yasa)


def walk(rng, epochs, unscored):
    """A random walk over the stages that stays in one about as long as sleepers do."""
    nearby = {"W": "W1", "1": "W12", "2": "123WR", "3": "23", "R": "R12W"}
    stage, letters = "W", []
    for _ in range(epochs):
        if rng.random() < 0.12:
            stage = rng.choice(list(nearby[stage]))
        letters.append("?" if rng.random() < unscored else stage)
    return "".join(letters)


def write_goldens(path):
    rng = np.random.default_rng(20260101)
    letters = [walk(rng, int(rng.integers(300, 1200)), u) for u in (0, 0, 0, 0, 0.02, 0.05, 0.3)]
    letters.append(walk(rng, 400, 0.02).replace("R", "2"))
    letters.append("W" * 50 + walk(rng, 700, 0.01) + "W" * 37)
    letters.append("W" * 40 + "?" * 3)
    names = {"W": "W", "1": "N1", "2": "N2", "3": "N3", "R": "R", "?": "?"}
    goldens = []
    for night in letters:
        figures = yasa_statistics([names[letter] for letter in night])
        goldens.append({
            "hypnogram": night,
            "yasa": {k: (None if math.isnan(v) else v) for k, v in figures.items()},
        })
    with open(path, "w") as file:
        json.dump(goldens, file, indent=1)
        file.write("\n")


def main(arguments):
    warnings.simplefilter("ignore")
    if arguments[:1] == ["--write-goldens"]:
        write_goldens(arguments[1])
        return 0
    if not arguments:
        print(__doc__)
        return 2
    for out in arguments:
        check_out(pathlib.Path(out))
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
