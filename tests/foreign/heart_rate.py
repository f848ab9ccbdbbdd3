"""Heart rate and oxygen saturation of the report beside other software: an ECG of NeuroKit2's model (ecgsyn)
at 50 to 110 beats a minute with noise and mains hum, and a saturation that falls and rises, go into an EDF
file; the lines of plots/heart-rate.svg and plots/spo2.svg are read back by their axes' labels, and each
epoch is compared with NeuroKit2's own R peaks and with the saturation that was written.

    heart_rate.py [path of sfm-stream]
"""

import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

try:
    import edfio
    import neurokit2
    import numpy as np
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    raise SystemExit(0)

RATE_HZ, EPOCH_S, STRETCH_S = 256, 30, 240
RATES_BPM = [60, 50, 75, 100, 110, 85, 55, 95, 65, 105]
EPOCHS = len(RATES_BPM) * STRETCH_S // EPOCH_S


def ecg():
    """Millivolts, and beats per minute of each epoch by NeuroKit2, 60 over the median interval."""
    stretches = [
        neurokit2.ecg_simulate(duration=STRETCH_S, sampling_rate=RATE_HZ, heart_rate=bpm, heart_rate_std=2,
                               noise=0.05, method="ecgsyn", random_state=number, random_state_distort=number)
        for number, bpm in enumerate(RATES_BPM)
    ]
    signal = np.concatenate(stretches)
    signal += 0.1 * np.sin(2 * np.pi * 50 * np.arange(len(signal)) / RATE_HZ)
    rates = []
    for epoch in signal.reshape(EPOCHS, -1):
        cleaned = neurokit2.ecg_clean(epoch, RATE_HZ, method="neurokit")
        peaks = neurokit2.ecg_peaks(cleaned, RATE_HZ, method="neurokit")[1]["ECG_R_Peaks"]
        rates.append(60 / np.median(np.diff(peaks) / RATE_HZ))
    return signal, np.array(rates)


def saturation():
    """Percent, a value a second: desaturations of 20 s, deeper in the middle of the night."""
    depth = np.repeat(np.round(8 * np.sin(np.pi * np.arange(EPOCHS) / EPOCHS)), EPOCH_S)
    second = np.arange(EPOCHS * EPOCH_S) % EPOCH_S
    return 97 - depth * ((second >= 5) & (second < 25))


def recording(path, heart, spo2):
    random = np.random.default_rng(20260301)
    seconds = EPOCHS * EPOCH_S
    noise = {"C3-M2": ("uV", 20), "EOG-L": ("uV", 30), "EMG": ("uV", 10), "Thor": ("uV", 100)}
    signals = [edfio.EdfSignal(scale * random.standard_normal(seconds * 128), 128, label=label, physical_dimension=unit)
               for label, (unit, scale) in noise.items()]
    signals += [edfio.EdfSignal(heart, RATE_HZ, label="EKG", physical_dimension="mV"),
                edfio.EdfSignal(spo2, 1, label="SpO2", physical_dimension="%", physical_range=(0, 100))]
    edfio.Edf(signals).write(path)


def lines(path):
    """Each line of a picture as one value an epoch, NaN where it is interrupted."""
    root = xml.etree.ElementTree.parse(path).getroot()
    tags = [(element.tag.split("}")[1], element) for element in root.iter()]
    labels = [(float(e.get("y")), float(re.match(r"[\d.]+", e.text.strip())[0]))
              for tag, e in tags if tag == "text" and e.get("text-anchor") == "end"]
    (top, most), (bottom, least) = sorted(labels)[0], sorted(labels)[-1]
    drawn = {}
    for tag, e in tags:
        if tag == "polyline":
            points = [tuple(map(float, p.split(","))) for p in e.get("points").split()]
            drawn.setdefault((e.get("stroke"), e.get("stroke-width")), []).append(points)
    # The axis is the one level line from the plot's left edge to its right one.
    ((left, _), (right, _)), = [p for all in drawn.values() for p in all if len(p) == 2 and p[0][1] == p[1][1] == bottom]
    found = []
    for (_, width), all in drawn.items():
        if width != "3":
            continue
        values = np.full(EPOCHS, np.nan)
        for x, y in (point for points in all for point in points):
            values[round((x - left) / (right - left) * EPOCHS)] = least + (bottom - y) / (bottom - top) * (most - least)
        found.append(values)
    return found, (most - least) / (bottom - top)


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/sfm-stream"
    heart, expected = ecg()
    spo2 = saturation()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        recording(folder / "heart.edf", heart, spo2)
        subprocess.run([binary, "--replay", folder / "heart.edf", "--out", folder / "out", "--pass", "final", "--plots",
                        "--backend", "tract"], check=True, capture_output=True)
        (rates,), a_pixel = lines(folder / "out" / "plots" / "heart-rate.svg")
        apart = np.abs(rates - expected)
        assert not np.isnan(rates).any(), f"{np.isnan(rates).sum()} of {EPOCHS} epochs have no rate"
        assert np.median(apart) < 1 and np.quantile(apart, 0.95) < 2 + a_pixel, (np.median(apart), apart.max())
        print(f"heart rate: {EPOCHS} epochs of {expected.min():.0f} to {expected.max():.0f}/min as NeuroKit2's, median "
              f"{np.median(apart):.2f}/min apart, at most {apart.max():.2f} (a pixel is {a_pixel:.2f})")
        (lowest, mean), a_pixel = lines(folder / "out" / "plots" / "spo2.svg")
        written = spo2.reshape(EPOCHS, EPOCH_S)
        apart = [np.abs(line - want).max() for line, want in ((lowest, written.min(1)), (mean, written.mean(1)))]
        print(f"SpO2: lowest and mean of {EPOCHS} epochs as written, at most {apart[0]:.2f} and {apart[1]:.2f} % apart")
        assert max(apart) < 0.5 + a_pixel, apart


if __name__ == "__main__":
    main()
