#!/usr/bin/env python3
"""Our EDF reader against pyedflib, and our EDF writer against pyedflib, MNE and edfio.

    cargo build --release -p sfm-runtime --example edf_dump
    python tests/foreign/edf_reader.py [path of edf_dump]

Every readable file of ../shared/edf (skipped with a message where it is absent) and the
repository's own recording must give pyedflib's integers, rates, labels and annotations. Files
of our writer must open everywhere, the hypnogram also as a kill at any moment leaves it.
Needs numpy, pyedflib, mne and edfio.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import edfio
import mne
import numpy as np
import pyedflib

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "edf"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
ANNOTATION_LABELS = ("EDF Annotations", "BDF Annotations")


def dump(tool, file):
    """What our reader makes of a file: its summary, and digital and physical samples."""
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run([tool, "read", file, folder], check=True, capture_output=True)
        ours = json.loads(out.stdout)
        for signal in ours["signals"]:
            base = Path(folder) / str(signal["index"])
            signal["samples"] = np.fromfile(base.with_suffix(".i32"), dtype="<i4")
            signal["values"] = np.fromfile(base.with_suffix(".f32"), dtype="<f4")
    return ours


def compare(tool, file):
    """Our reader equals pyedflib on one file; returns the number of samples compared."""
    ours = dump(tool, file)
    with pyedflib.EdfReader(str(file)) as theirs:
        # pyedflib does not know annotation signals in plain files.
        labels = theirs.getSignalLabels()
        channels = [i for i, label in enumerate(labels) if label not in ANNOTATION_LABELS]
        assert len(ours["signals"]) == len(channels), (len(ours["signals"]), len(channels))
        assert ours["records"] == theirs.datarecords_in_file
        assert ours["record_duration_s"] == theirs.datarecord_duration
        for i, signal in zip(channels, ours["signals"]):
            assert signal["label"] == labels[i], (signal["label"], labels[i])
            assert signal["unit"] == theirs.getPhysicalDimension(i)
            assert signal["prefilter"] == theirs.getPrefilter(i)
            assert signal["rate_hz"] == theirs.getSampleFrequency(i)
            assert signal["digital"] == [theirs.getDigitalMinimum(i), theirs.getDigitalMaximum(i)]
            assert signal["physical"] == [
                theirs.getPhysicalMinimum(i),
                theirs.getPhysicalMaximum(i),
            ]
            np.testing.assert_array_equal(signal["samples"], theirs.readSignal(i, digital=True))
            # Ours are 32-bit floats: half a step of those.
            largest = max(abs(limit) for limit in signal["physical"])
            difference = np.abs(signal["values"] - theirs.readSignal(i)).max()
            assert difference <= largest * 2**-24, difference
        start = theirs.getStartdatetime()
        assert ours["start"][:19] == start.isoformat()[:19], (ours["start"], start)
        # In plain files pyedflib reads no annotations.
        if ours["format"] not in ("EDF", "BDF"):
            onsets, durations, texts = theirs.readAnnotations()
            assert [a[2] for a in ours["annotations"]] == list(texts)
            np.testing.assert_allclose([a[0] for a in ours["annotations"]], onsets, atol=2e-7)
            ours_durations = [-1 if a[1] is None else a[1] for a in ours["annotations"]]
            np.testing.assert_allclose(ours_durations, durations, atol=2e-7)
    return sum(len(s["samples"]) for s in ours["signals"])


def check_reading(tool, files):
    for file in files:
        samples = compare(tool, file)
        print(f"ok: {file.name}: {samples} samples equal pyedflib's")


def check_hypnogram(file, epochs):
    """Three other readers find the epochs; while one is written, one more or less."""
    expected = ["Sleep stage ?", "Sleep stage W", "Sleep stage N2", "Sleep stage R"]
    with pyedflib.EdfReader(str(file)) as reader:
        found = {"pyedflib": list(zip(*reader.readAnnotations()))}
    theirs = mne.read_annotations(file)
    found["mne"] = list(zip(theirs.onset, theirs.duration, theirs.description))
    theirs = edfio.read_edf(file).annotations
    found["edfio"] = [(a.onset, a.duration, a.text) for a in theirs]
    for name, annotations in found.items():
        assert len(annotations) in epochs, (file, name, len(annotations))
        for epoch, (onset, duration, text) in enumerate(annotations):
            assert abs(onset - 30 * epoch) < 1e-6 and duration == 30, (name, epoch, onset)
            assert text == expected[epoch % 4], (name, epoch, text)


def check_killed_hypnogram(file):
    """Files as they are after a kill: between record and count, and before the first epoch."""
    whole = file.read_bytes()
    records = int(whole[236:244])
    record_bytes = (len(whole) - 512) // records
    first_empty = bytearray(whole[: 512 + record_bytes])
    first_empty[236:244] = b"1       "
    time_keeping = first_empty.index(b"\x14\x14\0", 512) + 3
    first_empty[time_keeping:] = bytes(len(first_empty) - time_keeping)
    uncounted = bytearray(whole)
    uncounted[236:244] = f"{records - 1:<8}".encode()
    for name, content, epochs in (
        ("uncounted.edf", uncounted, (records - 1, records)),
        ("empty.edf", first_empty, (0,)),
    ):
        killed = file.with_name(name)
        killed.write_bytes(content)
        check_hypnogram(killed, epochs)


def check_writing(tool, folder):
    subprocess.run([tool, "write", folder], check=True)
    for name in ("hypnogram.edf", "hypnogram_subsecond.edf", "hypnogram_undated.edf"):
        check_hypnogram(folder / name, (960,))
        check_killed_hypnogram(folder / name)
        print(f"ok: {name}: opens in pyedflib, MNE and edfio, whole and killed")
    for kind in ("plain", "plus_c"):
        for extension in ("edf", "bdf"):
            file = folder / f"{kind}.{extension}"
            compare(tool, file)
            read = mne.io.read_raw_edf if extension == "edf" else mne.io.read_raw_bdf
            raw = read(file)
            assert raw.ch_names == ["EEG C4-M1", "EMG Chin1-Chin2"], raw.ch_names
            print(f"ok: {file.name}: pyedflib and MNE read what was written")
    # pyedflib refuses discontinuous files; edfio reads the samples of EDF+D and BDF+D.
    for extension in ("edf", "bdf"):
        file = folder / f"plus_d.{extension}"
        read = edfio.read_edf if extension == "edf" else edfio.read_bdf
        theirs = read(file)
        for ours, signal in zip(dump(tool, file)["signals"], theirs.signals):
            np.testing.assert_array_equal(ours["samples"], signal.digital)
        apnea = theirs.annotations[0]
        assert (apnea.onset, apnea.duration, apnea.text) == (0.75, 1.5, "Obstructive apnea")
        print(f"ok: {file.name}: edfio reads what was written")


def main():
    warnings.simplefilter("ignore")
    mne.set_log_level("ERROR")
    default = TARGET / "release" / "examples" / "edf_dump"
    tool = Path(sys.argv[1] if len(sys.argv) > 1 else default).resolve()
    check_reading(tool, [ROOT / "tests/data/mini/psg.edf"])
    if SHARED.is_dir():
        check_reading(tool, sorted(SHARED.glob("*.[eb]df")))
    else:
        print(f"skipped: public files: no {SHARED}")
    with tempfile.TemporaryDirectory() as folder:
        check_writing(tool, Path(folder))


if __name__ == "__main__":
    main()
