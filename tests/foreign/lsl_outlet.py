"""Sleep stages of sfm-stream as pylsl receives them: one sample an epoch, in order, with labels.

    lsl_outlet.py [path of sfm-stream]

Needs pylsl, whose wheel brings liblsl.
"""

import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

try:
    import pylsl
    import pylsl.lib
    import pylsl.util
except ImportError:
    print("skipped: pylsl is not installed")
    raise SystemExit(0)

NAME = 'sfm-stage <bed> "7"'
LABELS = ["stage", "p_wake", "p_n1", "p_n2", "p_n3", "p_rem", "confidence", "epoch"]


def library():
    folder = pathlib.Path(pylsl.lib.__file__).parent
    return os.environ.get("SFM_LIBLSL") or str(next(iter(sorted(folder.glob("liblsl.so*")))))


def received(inlet, run):
    """Samples until the run is over and nothing more comes."""
    samples = []
    while True:
        over = run.poll() is not None
        try:
            sample, _ = inlet.pull_sample(timeout=0.5)
        except pylsl.util.LostError:
            sample = None
        if sample is not None:
            samples.append(sample)
        elif over:
            return samples


def code(stage):
    known = {"wake": 0, "w": 0, "n1": 1, "n2": 2, "n3": 3, "rem": 4, "r": 4}
    return -1 if stage is None else known[stage.lower()]


def main():
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/sfm-stream"
    environment = os.environ | {"SFM_LIBLSL": library()}
    with tempfile.TemporaryDirectory() as out:
        command = [binary, "--replay", "tests/data/mini/psg.edf", "--speed", "40", "--pass", "live", "--out", out,
                   "--backend", "tract", "--lsl-outlet", NAME]
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        found = [info for info in pylsl.resolve_byprop("type", "Stage", timeout=20) if info.name() == NAME]
        assert len(found) == 1, run.stderr.read()
        inlet = pylsl.StreamInlet(found[0], recover=False)
        info = inlet.info()
        inlet.open_stream(timeout=5)
        assert info.channel_count() == 8 and info.nominal_srate() == 0 and info.channel_format() == pylsl.cf_float32
        assert info.get_channel_labels() == LABELS, info.as_xml()
        samples = received(inlet, run)
        assert run.wait() == 0, run.stderr.read()
        lines = map(json.loads, open(pathlib.Path(out) / "events.jsonl"))
        first = {}
        for event in lines:
            if event["event"] == "epoch":
                first.setdefault(event["epoch"], event)
    wanted = [[code(e["stage"]), *e["probabilities"], e["confidence"], epoch] for epoch, e in first.items()]
    # The first epochs may have been said before anybody listened.
    assert len(wanted) - len(samples) <= 2 and len(samples) >= 8, (len(samples), len(wanted))
    for sample, expected in zip(samples, wanted[len(wanted) - len(samples):]):
        for got, want in zip(sample, expected):
            assert (math.isnan(got) if want is None else abs(got - want) < 1e-6), (sample, expected)
    print(f"{len(samples)} of {len(wanted)} epochs came, equal to the first word on each in events.jsonl")
    absent = subprocess.run(command, env=os.environ | {"SFM_LIBLSL": "/nowhere/liblsl.so"}, capture_output=True, text=True)
    assert absent.returncode == 5 and "pip install pylsl" in absent.stderr.splitlines()[-1], absent.stderr
    print("refused in one line: no library")


if __name__ == "__main__":
    main()
