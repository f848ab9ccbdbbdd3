#!/usr/bin/env python3
"""The recorder's files through pyedflib, MNE and edfio.

    cargo build --release --workspace --examples
    python tests/foreign/recording.py [path of the example recording]

Recordings of 16 and 24 bits, with silences of single channels and of all, one that was cut and such as they are while
they grow: every sample is where it
was recorded, what is missing is declared, and what is between is the digital minimum. All three open
those without long holes; of files with them, which pyedflib refuses, edfio reads the samples.
`annotations.edf` says the same in all three. Needs numpy, pyedflib, mne and edfio.
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
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SAID = [
    (0.5, None, "Lights off"),
    (30.0, 30.0, "Sleep stage W"),
    (12.345678, None, "Event button"),
    (60.0, 30.0, "Sleep stage N2"),
    (28800.0, None, "Lights on"),
]


def expected_signal(channel, length):
    """A contiguous file's digital samples: the minimum where nothing was recorded."""
    samples = np.full(length, channel["digital_min"], dtype=np.int64)
    slots = np.asarray(channel["slots"])
    samples[slots[slots < length]] = np.asarray(channel["values"])[slots < length]
    return samples


def expected_gaps(channel, end_s):
    """Onset and duration of what is missing, joined over the records."""
    rate_hz = channel["rate_hz"]
    present = np.zeros(round(end_s * rate_hz) + 2, dtype=np.int8)
    present[0] = present[-1] = 1
    slots = np.asarray(channel["slots"])
    present[slots[slots < len(present) - 2] + 1] = 1
    edges = np.diff(present)
    starts, ends = np.flatnonzero(edges == -1), np.flatnonzero(edges == 1)
    return [(a / rate_hz, (b - a) / rate_hz) for a, b in zip(starts, ends)]


def declared_gaps(annotations, label):
    """The same from a file's annotations, of which each lies within a record."""
    joined = []
    wanted = {f"Recording gap@@{label}", f"Recording end@@{label}"}
    for onset, duration, text in sorted(a for a in annotations if a[2] in wanted):
        if joined and abs(sum(joined[-1]) - onset) < 1e-5:
            joined[-1] = (joined[-1][0], onset + duration - joined[-1][0])
        else:
            joined.append((onset, duration))
    return joined


def check_gaps(name, annotations, channels, end_s):
    texts = {text for _, _, text in annotations}
    labels = {text.partition("@@")[2] for text in texts}
    assert labels <= {c["label"] for c in channels}, (name, texts)
    for channel in channels:
        declared = declared_gaps(annotations, channel["label"])
        expected = expected_gaps(channel, end_s)
        assert len(declared) == len(expected), (name, channel["label"], declared, expected)
        np.testing.assert_allclose(declared, expected, atol=1e-5, err_msg=name)


def by_pyedflib(file):
    with pyedflib.EdfReader(str(file)) as reader:
        assert reader.getPatientCode() in ("", "X"), reader.getPatientCode()
        assert reader.getEquipment().startswith("sfm-stream"), reader.getEquipment()
        annotations = list(zip(*reader.readAnnotations()))
        signals = [reader.readSignal(i, digital=True) for i in range(reader.signals_in_file)]
        rates = [reader.getSampleFrequency(i) for i in range(reader.signals_in_file)]
        start = reader.getStartdatetime().isoformat()
        return signals, rates, reader.getSignalLabels(), annotations, start


def by_edfio(file):
    edf = (edfio.read_edf if file.suffix == ".edf" else edfio.read_bdf)(file)
    annotations = [(a.onset, a.duration or 0.0, a.text) for a in edf.annotations]
    start = f"{edf.startdate.isoformat()}T{edf.starttime.isoformat()}"
    return (
        [s.digital for s in edf.signals],
        [s.sampling_frequency for s in edf.signals],
        [s.label for s in edf.signals],
        annotations,
        start,
    )


def check_contiguous(folder, file, expected):
    """pyedflib reads what the header counts, edfio and MNE what the file holds."""
    for name, read, end_s in (("pyedflib", by_pyedflib, expected["counted"]), ("edfio", by_edfio, expected["records"])):
        signals, rates, labels, annotations, start = read(file)
        # pyedflib divides the part of a second by ten once too often.
        digits = 19 if name == "pyedflib" else 22
        assert start[:digits] == expected["start"][:digits], (name, start, expected["start"])
        assert len(signals) == len(expected["channels"]), name
        for channel, samples, rate_hz, label in zip(expected["channels"], signals, rates, labels):
            assert (label, rate_hz) == (channel["label"], channel["rate_hz"]), (name, label)
            np.testing.assert_array_equal(
                samples, expected_signal(channel, round(end_s * rate_hz)), err_msg=name
            )
        check_gaps(f"{folder} in {name}", annotations, expected["channels"], end_s)
    raw = (mne.io.read_raw_edf if file.suffix == ".edf" else mne.io.read_raw_bdf)(file)
    assert raw.ch_names == [c["label"] for c in expected["channels"]], raw.ch_names
    assert raw.n_times / raw.info["sfreq"] == end_s, (raw.n_times, raw.info["sfreq"])
    theirs = mne.read_annotations(file)
    annotations = list(zip(theirs.onset, theirs.duration, theirs.description))
    # MNE gives the channel of `text@@channel` apart.
    names = theirs.ch_names if theirs.ch_names is not None else [()] * len(annotations)
    annotations = [
        (onset, duration, f"{text}@@{channel[0]}" if channel else text)
        for (onset, duration, text), channel in zip(annotations, names)
    ]
    check_gaps(f"{folder} in MNE", annotations, expected["channels"], end_s)
    # Of the fastest channel, which MNE does not resample, physical values to half a step.
    fastest = max(expected["channels"], key=lambda channel: channel["rate_hz"])
    volts = raw.get_data(fastest["label"])[0]
    digital = np.interp(volts, (-187.5e-6, 187.5e-6), (fastest["digital_min"], -1 - fastest["digital_min"]))
    np.testing.assert_allclose(
        digital, expected_signal(fastest, len(volts)), atol=0.5, err_msg="MNE"
    )


def check_holes(file, expected):
    """edfio gives the records of a file with holes one behind the other."""
    signals, rates, labels, _, _ = by_edfio(file)
    for channel, samples, rate_hz, label in zip(expected["channels"], signals, rates, labels):
        assert (label, rate_hz) == (channel["label"], channel["rate_hz"])
        filled = samples != channel["digital_min"]
        values = np.asarray(channel["values"])
        np.testing.assert_array_equal(samples[filled], values[values != channel["digital_min"]])
    (mne.io.read_raw_edf if file.suffix == ".edf" else mne.io.read_raw_bdf)(file)
    try:
        pyedflib.EdfReader(str(file)).close()
    except OSError as error:
        assert "discontinuous" in str(error), error
    else:
        raise AssertionError("pyedflib opens EDF+D now: tell the readers of this script")


def check_annotations(file):
    with pyedflib.EdfReader(str(file)) as reader:
        theirs = list(zip(*reader.readAnnotations()))
    found = {"pyedflib": [(o, None if d < 0 else d, t) for o, d, t in theirs]}
    theirs = mne.read_annotations(file)
    found["MNE"] = [(o, d or None, t) for o, d, t in zip(theirs.onset, theirs.duration, theirs.description)]
    found["edfio"] = [(a.onset, a.duration, a.text) for a in edfio.read_edf(file).annotations]
    for name, said in found.items():
        assert len(said) == len(SAID), (name, said)
        for ours, theirs in zip(sorted(SAID), sorted(said, key=lambda a: a[0])):
            assert abs(ours[0] - theirs[0]) < 1e-6 and ours[1:] == theirs[1:], (name, ours, theirs)


def main():
    warnings.simplefilter("ignore")
    mne.set_log_level("ERROR")
    default = TARGET / "release" / "examples" / "recording"
    tool = Path(sys.argv[1] if len(sys.argv) > 1 else default).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([tool, scratch], check=True)
        for folder in ("gaps", "wide_gaps", "cut", "growing", "wide_growing", "holes", "wide_holes"):
            file = next((Path(scratch) / folder).glob("recording.?df"))
            expected = json.loads((file.parent / "expected.json").read_text())
            if "holes" in folder:
                check_holes(file, expected)
                print(f"ok: {folder}/{file.name}: opens in MNE and edfio, samples equal in edfio")
            else:
                check_contiguous(folder, file, expected)
                print(f"ok: {folder}/{file.name}: samples and gaps equal in pyedflib, MNE, edfio")
            check_annotations(file.parent / "annotations.edf")
            print(f"ok: {folder}/annotations.edf: the same in pyedflib, MNE and edfio")


if __name__ == "__main__":
    main()
