"""A disk that is really full: a tmpfs of a few MB, which only root may mount. A replay and a live session
run into its end, say in a line each what is not written, and leave files that h5py, pyedflib and json
open. With room again the same replay is complete, and `recover` makes the session's final pass. A live
session that has room again before its end goes on by itself: every sample is there, the files are whole.

    full_disk.py [folder of sfm-stream and sfm-sim]
"""

import contextlib
import csv
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from outage import free_port, long_night, run_until_the_end, wait_for

try:
    import h5py
    import numpy
    import pyedflib
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    raise SystemExit(0)

FULL = "No space left on device"


@contextlib.contextmanager
def disk(folder, name, kilobytes):
    """A mounted tmpfs of this size; what it yields makes it larger."""
    place = folder / name
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={kilobytes}k"]
    mounted = subprocess.run(["mount", *options, "tmpfs", place], capture_output=True, text=True)
    if mounted.returncode != 0:
        print(f"skipped: cannot mount ({mounted.stderr.strip()})")
        raise SystemExit(0)
    try:
        yield place, lambda: subprocess.run(["mount", "-o", "remount,size=200m", place], check=True)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def not_written(told):
    """The files that lines of standard error name, each once."""
    names = re.findall(rf"^warning: \S*/([\w.]+): cannot be written \(.*{FULL}", told, re.M)
    assert len(set(names)) == len(names), told
    return set(names)


def lines(path, cut):
    """A file of JSON lines; the last one may be cut where the disk was full."""
    whole = path.read_text().split("\n")
    assert whole.pop() == "" or cut, f"{path} ends within a line"
    return [json.loads(line) for line in whole]


def check_opens(out, cut=()):
    """What is there is whole, and there are no names but those of a complete run."""
    for path in sorted(p for p in out.iterdir() if p.stat().st_size and not p.name.startswith(".")):
        if path.suffix == ".jsonl":
            assert lines(path, path.name in cut), path
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            with open(path, newline="") as file:
                assert all(None not in row.values() for row in csv.DictReader(file)), path
        elif path.suffix == ".edf":
            with pyedflib.EdfReader(str(path)) as file:
                file.readAnnotations()
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                assert len({len(file[name][:]) for name in file if name != "5min"}) == 1, path
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>"), path


def replayed(binary, recording, out, *more):
    command = [binary, "--replay", recording, "--out", out, "--backend", "tract", "--pass", "final", *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def replay(binary, recording, folder):
    with disk(folder, "replay", 600) as (place, enlarge):
        out = place / "out"
        run = replayed(binary, recording, out)
        missing = not_written(run.stderr)
        assert run.returncode == 5 and missing, (run.returncode, run.stderr)
        assert not any(p.name.endswith(".part") for p in out.iterdir()), sorted(out.iterdir())
        check_opens(out, missing)
        enlarge()
        again, elsewhere = replayed(binary, recording, out), replayed(binary, recording, folder / "elsewhere")
        assert again.returncode == 0 and not not_written(again.stderr), again.stderr
        check_opens(out)
        names = [sorted(p.name for p in place.iterdir()) for place in (out, folder / "elsewhere")]
        assert names[0] == names[1], names
        for name in ("hypnogram.csv", "hypnogram.edf", "events.jsonl"):
            assert (out / name).read_bytes() == (folder / "elsewhere" / name).read_bytes(), name
        print(f"replay: exit code {run.returncode}, not written: {', '.join(sorted(missing))}; with room again complete")


def check_samples(recording, sent):
    """Every second that was recorded is as it was sent, up to where the disk ended. At 60 times real time
    a busy machine is as good as a clock that runs away: a sample may be left out or repeated, and the time of
    all is off by some."""
    with pyedflib.EdfReader(str(recording)) as got, pyedflib.EdfReader(str(sent)) as source:
        seconds = int(got.getFileDuration())
        place = {label: i for i, label in enumerate(source.getSignalLabels())}
        for i, label in enumerate(got.getSignalLabels()):
            rate = int(got.getSampleFrequency(i))
            samples = got.readSignal(i, digital=True).reshape(seconds, rate)
            most = 4 * rate
            wanted = numpy.pad(source.readSignal(place[label], digital=True), most)
            same, shift = 0, 0
            for k, second in enumerate(samples):
                shifts = sorted(range(-most, most + 1), key=lambda d: abs(d - shift))
                at = next((d for d in shifts if numpy.array_equal(second, wanted[most + k * rate + d:][:rate])), None)
                same, shift = same + (at is not None), shift if at is None else at
            assert same >= 0.95 * seconds, (label, same, seconds)
    return seconds


def health(port):
    """What /healthz says, 503 or not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


class Bed:
    """A live session at 60 times real time, what it says and its simulated sensors."""

    def __init__(self, programs, recording, out):
        sensors, self.metrics, self.told = f"127.0.0.1:{free_port()}", free_port(), []
        self.run = run_until_the_end(
            [programs / "sfm-stream", "--udp", sensors, "--devices", "2", "--speed", "60", "--out", out, "--backend", "tract",
             "--age", "60", "--sex", "f", "--metrics", f"127.0.0.1:{self.metrics}"], stderr=subprocess.PIPE, text=True)
        threading.Thread(target=lambda: self.told.extend(self.run.stderr), daemon=True).start()
        assert wait_for(lambda: "waiting for sensors" in self.text()), self.text()
        self.sim = run_until_the_end([programs / "sfm-sim", recording, "--udp", sensors, "--sensors", "2", "--speed", "60"])

    def text(self):
        return "".join(self.told)

    def wait(self):
        code = self.run.wait(timeout=180)
        assert wait_for(lambda: "session over: every device ended" in self.text()), self.text()
        return code


def stopped(told):
    lines = [line for line in told.splitlines() if " error recording stopped" in line]
    assert len(lines) == 1 and FULL in lines[0] and "staging goes on" in lines[0], told


def check_replay(binary, out, again, seconds):
    replayed(binary, out / "recording.edf", again)
    tables = [(f / "hypnogram.csv").read_text() for f in (out, again)]
    assert tables[0] == tables[1] and tables[0].count(",final\n") == seconds // 5 // 6 + (seconds // 5 % 6 > 0), tables
    assert not any(p.name.endswith(".part") for p in out.iterdir()), sorted(out.iterdir())


def live_full_to_the_end(programs, recording, folder):
    binary = programs / "sfm-stream"
    with disk(folder, "live", 3000) as (place, enlarge):
        out = place / "bed"
        bed = Bed(programs, recording, out)
        assert bed.wait() == 5, bed.text()
        assert [line for line in bed.text().splitlines() if " error recording stopped" in line], bed.text()
        assert "are not recorded" in bed.text(), bed.text()
        check_opens(out, {"events.jsonl", "session.jsonl"})
        seconds = check_samples(out / "recording.edf", recording)
        enlarge()
        recovered = subprocess.run([binary, "recover", out], capture_output=True, text=True, timeout=120)
        assert recovered.returncode == 0 and "cannot be written" not in recovered.stderr, recovered.stderr
        check_opens(out)
        assert check_samples(out / "recording.edf", recording) == seconds
        assert json.loads((out / "night.json").read_text())["provenance"]["pass"] == "final"
        check_replay(binary, out, folder / "again", seconds)
        print(f"live, full to the end: exit code 5; {seconds} s recorded as sent; `recover` staged them as a replay does")


def live_with_room_again(programs, recording, folder):
    with disk(folder, "freed", 1500) as (place, enlarge):
        out = place / "bed"
        bed = Bed(programs, recording, out)
        assert wait_for(lambda: "recording stopped" in bed.text(), 120), bed.text()
        assert wait_for(lambda: health(bed.metrics)["status"] == "failing"), health(bed.metrics)
        assert any("the recording stopped" in why for why in health(bed.metrics)["reasons"]), health(bed.metrics)
        time.sleep(2)
        enlarge()
        assert wait_for(lambda: "recording goes on" in bed.text(), 30), bed.text()
        assert wait_for(lambda: not any("the recording stopped" in why for why in health(bed.metrics)["reasons"]), 10)
        code = bed.wait()
        assert code == 0, (code, bed.text())
        stopped(bed.text())
        assert "not recorded" not in bed.text(), bed.text()
        check_opens(out)
        with pyedflib.EdfReader(str(recording)) as sent:
            length = int(sent.getFileDuration())
        seconds = check_samples(out / "recording.edf", recording)
        assert seconds >= length - 1, (seconds, length)
        with pyedflib.EdfReader(str(out / "recording.edf")) as got:
            onsets, durations, texts = got.readAnnotations()
            gaps = [gap for gap in zip(onsets, durations, texts) if gap[2].startswith("Recording gap")]
        # At 60 times real time a busy machine loses a datagram or leaves a sample out; the outage lasted minutes.
        lost = {}
        for _, duration, text in gaps:
            lost[text] = lost.get(text, 0.0) + duration
        assert max(lost.values(), default=0.0) < 3.0, gaps
        events = [event for event in lines(out / "session.jsonl", False) if event["event"] == "recorder"]
        assert [event["recording"] for event in events] == [False, True], events
        check_replay(programs / "sfm-stream", out, folder / "freed-again", seconds)
        night = json.loads((out / "night.json").read_text())
        assert "unrecorded" not in night["links"] and night["provenance"]["pass"] == "final", night["links"]
        print(f"live, with room again: exit code 0; all {seconds} s recorded as sent, none missing; every file whole")


def live_moved_without_room(programs, recording, folder):
    """The folder is renamed where there is no room for a copy: what comes then is recorded, and the rest is said
    to be missing."""
    with disk(folder, "moved", 9000) as (place, _):
        out, away = place / "bed", place / "away"
        bed = Bed(programs, recording, out)
        path = out / "recording.edf"
        assert wait_for(lambda: path.exists() and path.stat().st_size > 4_700_000, 60), bed.text()
        out.rename(away)
        assert wait_for(lambda: "the session goes on in" in bed.text(), 15), bed.text()
        assert wait_for(lambda: "cannot be copied" in bed.text(), 5), bed.text()
        assert wait_for(lambda: json.loads((out / "session.json").read_text()).get("unrecorded"), 10)
        lost, = json.loads((out / "session.json").read_text())["unrecorded"]

        def header():
            return (out / "recording.edf").read_bytes()[:256]

        assert wait_for(lambda: header()[192:197] == b"EDF+D" and int(header()[236:244]) > 1, 10), header()
        bed.run.kill()
        bed.run.wait()
        bed.sim.kill()
        kept = json.loads((away / "session.json").read_text())
        assert kept["ended"] is False and lost["from_s"] == 0 and lost["to_s"] > 200, (kept, lost)
        with pyedflib.EdfReader(str(away / "recording.edf")) as file:
            assert abs(file.getFileDuration() - lost["to_s"]) <= 1, (file.getFileDuration(), lost)
        told = {}
        for one in (out, away):
            target = folder / f"moved-{one.name}"
            shutil.copytree(one, target)
            recovered = subprocess.run([programs / "sfm-stream", "recover", target], capture_output=True, text=True, timeout=120)
            assert recovered.returncode == 0, recovered.stderr
            told[one.name] = recovered.stderr
        night = json.loads((folder / "moved-bed/night.json").read_text())
        assert night["links"]["unrecorded"] == [lost], night["links"]["unrecorded"]
        assert "are not recorded" in told["bed"] and "are not recorded" not in told["away"], told
        print(f"live, renamed without room for a copy: recorded from {lost['to_s']:.0f} s on, the rest is in the renamed folder")


def main():
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release").resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        recording = folder / "night.edf"
        long_night(recording, times=3)
        live_full_to_the_end(programs, recording, folder)
        live_with_room_again(programs, recording, folder)
        live_moved_without_room(programs, recording, folder)
        long_night(recording)
        replay(programs / "sfm-stream", recording, folder)


if __name__ == "__main__":
    main()
