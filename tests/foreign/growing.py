"""A recording while it grows: pyedflib, MNE and edfio open it at any moment, after SIGKILL and before
`recover`, and its folder may be renamed or removed under it.

    growing.py [folder of sfm-stream and sfm-sim]

Needs numpy, pyedflib, mne and edfio.
"""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings

from outage import long_night, wait_for

try:
    import edfio
    import mne
    import numpy
    import pyedflib
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    raise SystemExit(0)

from full_disk import Bed, check_samples, health, lines


def by_pyedflib(path):
    with pyedflib.EdfReader(str(path)) as file:
        file.readAnnotations()
        return file.getFileDuration(), file.readSignal(0, digital=True)


def by_edfio(path):
    edf = edfio.read_edf(path)
    assert len(edf.annotations) >= 0
    return edf.duration, edf.signals[0].digital


def by_mne(path):
    raw = mne.io.read_raw_edf(path)
    mne.read_annotations(path)
    raw.load_data()
    return raw.n_times / raw.info["sfreq"], None


def opened(path):
    """Seconds that all three see, of one state of a file that grows; two of them give the same samples."""
    with tempfile.TemporaryDirectory() as folder:
        state = pathlib.Path(folder) / path.name
        shutil.copyfile(path, state)
        (counted, theirs), (held, samples), (by_length, _) = [read(state) for read in (by_pyedflib, by_edfio, by_mne)]
        # pyedflib reads what the header counts, edfio and MNE what the file holds.
        assert counted <= held == by_length, (counted, held, by_length)
        numpy.testing.assert_array_equal(theirs, samples[:len(theirs)])
    # And the file itself, while it is written to.
    by_pyedflib(path), by_edfio(path), by_mne(path)
    return counted


def grows(programs, recording, folder):
    out = folder / "bed"
    bed = Bed(programs, recording, out)
    path = out / "recording.edf"
    assert wait_for(path.exists, 60), bed.text()
    lengths = []

    def opens():
        try:
            lengths.append(opened(path))
        except (OSError, AssertionError):
            # Nothing is counted before the first second.
            assert not lengths, lengths
        return len(lengths) > 0

    assert wait_for(opens, 20), "it does not open at all"
    while len(lengths) < 8:
        time.sleep(0.7)
        lengths.append(opened(path))
    assert lengths == sorted(lengths) and lengths[-1] > lengths[0], lengths
    bed.run.send_signal(signal.SIGKILL)
    bed.run.wait()
    bed.sim.kill()
    after_kill = opened(path)
    assert after_kill >= lengths[-1], (after_kill, lengths)
    whole = (path.stat().st_size - header_bytes(path)) // record_bytes(path)
    recovered = subprocess.run([programs / "sfm-stream", "recover", out], capture_output=True, text=True, timeout=180)
    assert recovered.returncode == 0, recovered.stderr
    seconds = check_samples(path, recording)
    # What was written behind the last sync is not lost.
    assert opened(path) == seconds and seconds >= whole - 1 and seconds >= after_kill, (seconds, whole, after_kill)
    print(f"grows: opened {len(lengths)} times from {lengths[0]:.0f} s to {lengths[-1]:.0f} s, after SIGKILL {after_kill:.0f} s, "
          f"recovered {seconds} s")


def header_bytes(path):
    return int(path.read_bytes()[184:192])


def record_bytes(path):
    header = path.read_bytes()[:header_bytes(path)]
    count = int(header[252:256])
    return sum(2 * int(header[256 + 216 * count + 8 * i:][:8]) for i in range(count))


def loses_its_folder(programs, recording, folder, what):
    out, away = folder / what, folder / f"{what} away"
    bed = Bed(programs, recording, out)
    path = out / "recording.edf"
    assert wait_for(lambda: path.exists() and path.stat().st_size > 50_000, 60), bed.text()
    begun = time.monotonic()
    if what == "renamed":
        out.rename(away)
    elif what == "removed":
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
    elif what == "unlinked":
        path.unlink()
    else:
        # Another one lies there at once.
        out.rename(away)
        out.mkdir()
        (out / "recording.edf").write_text("another's")
    assert wait_for(lambda: "the session goes on in" in bed.text(), 15), bed.text()
    noticed_s = time.monotonic() - begun
    assert noticed_s < 10, noticed_s
    now = folder / f"{what}-2" if what == "replaced" else out
    assert str(now) in bed.text(), bed.text()
    state = health(bed.metrics)
    assert state["status"] != "ok" and any("the session goes on in" in why for why in state["reasons"]), state
    code = bed.wait()
    assert code == (0 if what != "replaced" else code), (code, bed.text())
    seconds = check_samples(now / "recording.edf", recording)
    with pyedflib.EdfReader(str(recording)) as sent:
        assert seconds >= int(sent.getFileDuration()) - 1, seconds
    assert opened(now / "recording.edf") == seconds
    kept = lines(now / "session.jsonl", False)
    assert [e["folder"] for e in kept if e["event"] == "moved"] == [str(now)], kept
    assert any(e["event"] == "started" or e["event"] == "device" for e in kept), "what was logged before"
    assert json.loads((now / "session.json").read_text())["ended"] is True
    for name in ("hypnogram.csv", "hypnogram.edf", "night.json", "embeddings.h5", "events.jsonl", "journal.sfm", "annotations.edf"):
        assert (now / name).exists(), (name, sorted(p.name for p in now.iterdir()))
    night = json.loads((now / "night.json").read_text())
    assert night["provenance"]["pass"] == "final", night["provenance"]
    if away.exists():
        assert opened(away / "recording.edf") > 0
        assert not (away / "night.json").exists()
    if what == "replaced":
        assert sorted(p.name for p in out.iterdir()) == ["recording.edf"], sorted(out.iterdir())
        assert (out / "recording.edf").read_text() == "another's"
    print(f"{what}: noticed after {noticed_s:.1f} s, all {seconds} s are in {now.name}")


def main():
    warnings.simplefilter("ignore")
    mne.set_log_level("ERROR")
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release").resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        recording = folder / "night.edf"
        long_night(recording, times=4)
        grows(programs, recording, folder)
        for what in ("renamed", "removed", "unlinked", "replaced"):
            loses_its_folder(programs, recording, folder, what)


if __name__ == "__main__":
    main()
