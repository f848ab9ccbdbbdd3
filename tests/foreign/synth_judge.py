"""Judges simulated sleep with software that is not ours.

    synth_judge.py FOLDER [--nights N]

FOLDER is what `sfm-train synth --out FOLDER` wrote. YASA's stager, trained on people's sleep, scores
up to N nights (all, if not given) from one EEG, one EOG and the chin EMG, and its stages are compared
with the simulated ones: macro-F1 over all epochs at least 0.70, each stage's F1 at least 0.45. The
recordings are read with pyedflib and MNE, the hypnograms with both, and must agree with the CSV files.

Needs yasa, mne, pyedflib, scikit-learn.
"""

import argparse
import csv
import logging
import pathlib
import sys
import warnings

import mne
import numpy as np
import pyedflib
import yasa
from sklearn.metrics import cohen_kappa_score, confusion_matrix, f1_score

MIN_MACRO_F1 = 0.70
MIN_STAGE_F1 = 0.45
STAGES = ["W", "N1", "N2", "N3", "R"]
FROM_YASA = {"WAKE": "W", "N1": "N1", "N2": "N2", "N3": "N3", "REM": "R"}
FROM_CSV = {"Wake": "W", "N1": "N1", "N2": "N2", "N3": "N3", "REM": "R"}
# EEG, EOG, EMG of each laboratory.
CHANNELS = {"mesa": ("EEG3", "EOG-L", "EMG"), "stanford": ("C4-M1", "LEOG", "Chin")}
FAILURES = []


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def csv_stages(path):
    """Stages by epoch from the rows of 5 s."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    whole = all(float(r["Start"]) == 5 * i and float(r["Stop"]) == 5 * i + 5
                for i, r in enumerate(rows))
    check(f"{path.name}: rows of 5 s without holes", whole and len(rows) % 6 == 0)
    names = [FROM_CSV[r["StageName"]] for r in rows]
    check(f"{path.name}: numbers fit names",
          all(STAGES.index(n) == int(r["StageNumber"]) for n, r in zip(names, rows)))
    check(f"{path.name}: one stage an epoch",
          all(len(set(names[i:i + 6])) == 1 for i in range(0, len(names), 6)))
    return names[::6]


def check_hypnogram(path, stages):
    want = [(30.0 * i, 30.0, f"Sleep stage {s}") for i, s in enumerate(stages)]
    found = mne.read_annotations(str(path))
    by_mne = list(zip(map(float, found.onset), map(float, found.duration), found.description))
    check(f"{path.name}: MNE reads the stages of the CSV", by_mne == want)
    with pyedflib.EdfReader(str(path)) as reader:
        by_pyedflib = [(float(o), float(d), str(t)) for o, d, t in zip(*reader.readAnnotations())]
    check(f"{path.name}: pyedflib reads the stages of the CSV", by_pyedflib == want)


def check_recording(path, raw, stages):
    """Both readers see the same samples of the channels that are judged."""
    seconds = 30 * len(stages)
    with pyedflib.EdfReader(str(path)) as reader:
        labels = reader.getSignalLabels()
        rates = reader.getSampleFrequencies()
        lengths = [n == rate * seconds for n, rate in zip(reader.getNSamples(), rates)]
        check(f"{path.name}: {len(labels)} channels as long as the hypnogram", all(lengths))
        check(f"{path.name}: no label twice", len(set(labels)) == len(labels))
        for label in raw.ch_names:
            samples = reader.readSignal(labels.index(label))
            by_mne = raw.get_data(picks=[label])[0] * 1e6
            check(f"{path.name}: pyedflib and MNE agree on {label}",
                  samples.shape == by_mne.shape and np.allclose(samples, by_mne, atol=1e-3))


def score(raw, names, age, male):
    eeg, eog, emg = names
    staging = yasa.SleepStaging(
        raw, eeg_name=eeg, eog_name=eog, emg_name=emg, metadata={"age": age, "male": male})
    return [FROM_YASA[stage] for stage in staging.predict().hypno]


def f1(truth, scored):
    return f1_score(truth, scored, labels=STAGES, average=None, zero_division=0)


def row(name, truth, scored):
    by_stage = f1(truth, scored)
    kappa = cohen_kappa_score(truth, scored)
    figures = "".join(f"{value:8.3f}" for value in [*by_stage, by_stage.mean(), kappa])
    print(f"{name:24}{figures}")
    return by_stage


def main(arguments):
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    mne.set_log_level("ERROR")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--nights", type=int)
    options = parser.parse_args(arguments)
    folder = options.folder
    with open(folder / "demographics.csv", newline="") as file:
        people = list(csv.DictReader(file))
    # Nights of both laboratories, whatever the number.
    people.sort(key=lambda p: p["Study ID"].split("-")[-1])
    judged = []
    for person in people[:options.nights]:
        night = person["Study ID"]
        laboratory = night.split("-")[0]
        stages = csv_stages(folder / "stages" / laboratory / f"{night}.csv")
        check_hypnogram(folder / "hypnograms" / f"{night}.edf", stages)
        path = folder / "edf" / laboratory / f"{night}.edf"
        names = CHANNELS[laboratory]
        raw = mne.io.read_raw_edf(path, include=names, preload=True)
        check_recording(path, raw, stages)
        male = int(person["sex"] == "m")
        scored = score(raw, names, round(float(person["age_years"])), male)
        judged.append((night, stages, scored))
    check("there are nights to judge", bool(judged))
    if not judged:
        return 1
    print(f"\n{'F1':24}" + "".join(f"{name:>8}" for name in [*STAGES, "macro", "kappa"]))
    for night, stages, scored in judged:
        row(night, stages, scored)
    truth = [stage for _, stages, _ in judged for stage in stages]
    scored = [stage for _, _, stages in judged for stage in stages]
    by_stage = row("all epochs", truth, scored)
    print(f"\nsimulated by row, YASA by column: {STAGES}")
    print(confusion_matrix(truth, scored, labels=STAGES))
    check(f"macro-F1 {by_stage.mean():.3f} >= {MIN_MACRO_F1}", by_stage.mean() >= MIN_MACRO_F1)
    for stage, value in zip(STAGES, by_stage):
        check(f"F1 of {stage} {value:.3f} >= {MIN_STAGE_F1}", value >= MIN_STAGE_F1)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
