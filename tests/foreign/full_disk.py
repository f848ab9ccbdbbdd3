"""A disk that is really full: a tmpfs of a few MB, which only root may mount. A replay and a live session
run into its end, say in a line each what is not written, and leave files that h5py, pyedflib and json
open. With room again the same replay is complete, and `recover` makes the session's final pass.

    full_disk.py [folder of sfm-stream and sfm-sim]
"""

import contextlib
import csv
import json
import pathlib
import re
import subprocess
import sys
import tempfile

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
    a busy machine is as good as a clock that runs away: a sample may be left out or repeated."""
    with pyedflib.EdfReader(str(recording)) as got, pyedflib.EdfReader(str(sent)) as source:
        seconds = int(got.getFileDuration())
        place = {label: i for i, label in enumerate(source.getSignalLabels())}
        for i, label in enumerate(got.getSignalLabels()):
            rate = int(got.getSampleFrequency(i))
            samples = got.readSignal(i, digital=True).reshape(seconds, rate)
            wanted = numpy.pad(source.readSignal(place[label], digital=True), 8)
            same = sum(any(numpy.array_equal(second, wanted[8 + k * rate + d:][:rate]) for d in range(-8, 9))
                       for k, second in enumerate(samples))
            assert same >= 0.95 * seconds, (label, same, seconds)
    return seconds


def live(programs, recording, folder):
    binary, sensors = programs / "sfm-stream", f"127.0.0.1:{free_port()}"
    with disk(folder, "live", 3000) as (place, enlarge):
        out = place / "bed"
        run = run_until_the_end([binary, "--udp", sensors, "--devices", "2", "--speed", "60", "--out", out, "--backend",
                                 "tract", "--age", "60", "--sex", "f"], stderr=subprocess.PIPE, text=True)
        assert wait_for(lambda: "waiting for sensors" in run.stderr.readline())
        run_until_the_end([programs / "sfm-sim", recording, "--udp", sensors, "--sensors", "2", "--speed", "60"])
        told = run.communicate(timeout=120)[1]
        assert run.returncode == 5 and "session over: every device ended" in told, (run.returncode, told)
        stopped = [line for line in told.splitlines() if " error recording stopped" in line]
        assert len(stopped) == 1 and FULL in stopped[0] and "staging goes on" in stopped[0], stopped
        last = told.splitlines()[-1]
        assert last.startswith("sfm-stream: "), told
        check_opens(out, {"events.jsonl", "session.jsonl"})
        seconds = check_samples(out / "recording.edf", recording)
        enlarge()
        recovered = subprocess.run([binary, "recover", out], capture_output=True, text=True, timeout=120)
        assert recovered.returncode == 0 and "cannot be written" not in recovered.stderr, recovered.stderr
        check_opens(out)
        assert check_samples(out / "recording.edf", recording) == seconds
        assert json.loads((out / "night.json").read_text())["provenance"]["pass"] == "final"
        replayed(binary, out / "recording.edf", folder / "again")
        tables = [(f / "hypnogram.csv").read_text() for f in (out, folder / "again")]
        assert tables[0] == tables[1] and tables[0].count(",final\n") == seconds // 5 // 6 + (seconds // 5 % 6 > 0), tables
        assert not any(p.name.endswith(".part") for p in out.iterdir()), sorted(out.iterdir())
        print(f"live: exit code {run.returncode}; {seconds} s recorded as sent; `recover` staged them as a "
              "replay does")


def main():
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release").resolve()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        recording = folder / "night.edf"
        long_night(recording, times=3)
        live(programs, recording, folder)
        long_night(recording)
        replay(programs / "sfm-stream", recording, folder)


if __name__ == "__main__":
    main()
