"""What has to hold in every scenario, in the words of `configs/README.md`, *What is guaranteed*. Each check looks at what was noted on the way (samples on the wires,
answers of `/healthz` and `/metrics`, files before and after each host) and says what does not hold."""

import bisect
import json
import subprocess

import edf
import plan as plans
import world as worlds

try:
    import pyedflib
except ImportError:
    pyedflib = None
try:
    import mne
except ImportError:
    mne = None

# The bound of the guarantees, seconds of the session, and what a busy machine may add, real seconds.
BOUND_S = 10.0
SLACK_REAL_S = 1.0
# A host that has just started may take so long to know its sensors, seconds of the session and real ones.
HANDSHAKE_S = 10.0
HANDSHAKE_REAL_S = 2.0
# A sample lies within so much of its place, seconds: what a boot's first fit of the clock may be off.
PLACE_S = 1.0
# Samples of a channel that end-points may be off by.
EDGE = 2


def bound_real_s():
    return BOUND_S / plans.SPEED + SLACK_REAL_S


def all_of(world):
    silence(world)
    answers(world)
    accounts(world)
    recordings = recorded(world)
    places(world, recordings)
    coverage(world, recordings)
    foreign_files(world)
    persons(world)
    gone_on(world)
    folders(world)


# --- /healthz

def expected(world, host):
    """For every sensor: from when to when this host has to miss it, real time."""
    for sensor in world.sensors:
        heard = first_heard_s(sensor, host)
        asked_for = plans_devices(world) and sensor.number < 2
        if heard is None and not asked_for:
            continue
        yield sensor, heard if heard is not None else host.begun + HANDSHAKE_REAL_S


def plans_devices(world):
    return world.plan.topology == "one"


def blocks(sensor):
    for sent in sensor.tap.channels.values():
        yield from sent.blocks


def first_heard_s(sensor, host):
    ends = host.ended[1] if host.ended else float("inf")
    times = [at_s for at_s, _, _, _, went in blocks(sensor) if went and host.begun < at_s < ends]
    return min(times, default=None)


def arrivals(sensor):
    return sorted(at_s for at_s, _, _, _, went in blocks(sensor) if went)


def silence(world):
    """Silence is reported within 10 s: `/healthz` is not ok while data of an expected sensor do not arrive."""
    for host in world.hosts:
        for sensor, from_s in expected(world, host):
            came = arrivals(sensor)
            wrong = [answer for answer in host.answers
                     if answer.status == "ok" and is_silent(world, host, sensor, came, from_s, answer.at_s)]
            if wrong:
                first = (wrong[0].at_s - world.begun) * plans.SPEED
                world.fail(f"silence: /healthz was ok {len(wrong)} times while nothing came from device "
                           f"{sensor.number} ({sensor.tap.device}), first at {first:.0f} s")


def is_silent(world, host, sensor, came, from_s, at_s):
    before = bisect.bisect_right(came, at_s)
    last_s = max(came[before - 1] if before else from_s, from_s, host.begun)
    # It said bye, or has just been stopped: nobody misses it.
    gone = [begin for begin, end in sensor_left(world, sensor) if last_s - 2 <= begin <= at_s]
    stood_still = sum((end or at_s) - begin for begin, end in host.stopped if begin < at_s and (end or at_s) > last_s)
    return not gone and at_s - last_s - stood_still > bound_real_s() + world.late_s


def sensor_left(world, sensor):
    return [(at_s, None) for number, at_s in world.left if number == sensor.number]


def answers(world):
    """A host that runs answers; nothing of any bed for 60 s is `failing`."""
    for host in world.hosts:
        dumb = [a for a in host.answers if a.status is None and not host.is_stopped(a.at_s)
                and a.at_s > host.begun + HANDSHAKE_REAL_S]
        if len(dumb) >= 3:
            at_s = (dumb[0].at_s - world.begun) * plans.SPEED
            world.fail(f"answers: /healthz did not answer {len(dumb)} times, first at {at_s:.0f} s: "
                       f"{dumb[0].body['reasons'][0]}")
        everything = sorted(at_s for sensor in world.sensors for at_s in arrivals(sensor))
        for answer in host.answers:
            before = bisect.bisect_right(everything, answer.at_s)
            last_s = max(everything[before - 1] if before else host.begun, host.begun)
            quiet_s = answer.at_s - last_s
            if before and everything[before - 1] > host.begun and quiet_s > 60 / plans.SPEED + SLACK_REAL_S + 0.5 \
                    and answer.status in ("ok", "degraded") and not host.stopped and not world.left:
                world.fail(f"silence: nothing came for {quiet_s * plans.SPEED:.0f} s and /healthz was {answer.status}")
                break


# --- accounts

def accounts(world):
    """Every sample that a sensor sent is placed, or counted within 10 s of both sides being up again."""
    for host in world.hosts:
        for sensor in world.sensors:
            if not any(excuse.device == sensor.number for excuse in world.excuses):
                account(world, host, sensor)


def account(world, host, sensor):
    """Between two answers of `/metrics` the counts grow by what was sent until 10 s before the second."""
    known = [a for a in host.answers if a.accounted.get(sensor.tap.device)]
    if len(known) < 2:
        return
    first, worst = known[0], None
    for answer in known[1:]:
        until_s = answer.at_s - bound_real_s() - world.late_s
        if not is_up(world, host, sensor, until_s, answer.at_s):
            continue
        # Counts before the first answer are not known to be of the same samples.
        sent = sum(sent_between(channel, first.at_s, until_s) for channel in sensor.tap.channels.values())
        counted = answer.accounted[sensor.tap.device] - first.accounted[sensor.tap.device]
        if sent - counted > 0.01 * sent + 64 and (worst is None or sent - counted > worst[0]):
            worst = (sent - counted, sent, counted, answer.at_s)
    if worst:
        at_s = (worst[3] - world.begun) * plans.SPEED
        world.fail(f"accounts: at {at_s:.0f} s {worst[2]:.0f} samples of device {sensor.number} were counted of "
                   f"{worst[1]} that had been sent 10 s before")


def is_up(world, host, sensor, from_s, to_s):
    """The host ran and samples arrived all the time."""
    if any(begin < to_s and (end or to_s) > from_s for begin, end in host.stopped):
        return False
    came = arrivals(sensor)
    inside = came[bisect.bisect_left(came, from_s):bisect.bisect_right(came, to_s)]
    pauses = [b - a for a, b in zip([from_s, *inside], [*inside, to_s])]
    return max(pauses) < 0.5 + world.late_s


def sent_between(channel, from_s, to_s):
    """Samples from the first to the last that went over the wire in a stretch, boot by boot."""
    spans = {}
    for at_s, boot, first, count, went in channel.blocks:
        if went and from_s < at_s <= to_s:
            low, high = spans.get(boot, (first, first))
            spans[boot] = (min(low, first), max(high, first + count))
    return sum(high - low for low, high in spans.values())


# --- recordings

def recorded(world):
    """Folder and channels of every recording of ours; damaged ones are said."""
    found = []
    for path in sorted(world.place.rglob("recording.edf")):
        if path.relative_to(world.place) in world.snapshots[0]:
            continue
        try:
            found.append((path.parent, edf.read_session(path)))
        except (edf.Broken, ValueError, IndexError) as error:
            world.fail(f"files: {path.relative_to(world.place)} cannot be read: {error}")
    return found


def places(world, recordings):
    """Samples lie in their order and at their times; what is missing between them is declared."""
    for folder, channels in recordings:
        for channel in channels:
            name = f"{folder.relative_to(world.place)} {channel.label}"
            moved, skipped = 0, 0
            for (place, index), (next_place, next_index) in zip(channel.samples, channel.samples[1:]):
                step, taken = next_place - place, next_index - index
                if step == 1 and taken not in (0, 1, 2):
                    skipped += 1
                elif abs(taken - step) > PLACE_S * channel.rate_hz + EDGE and not world.clock_file:
                    moved += 1
            boots = sum(sensor.tap.boot for sensor in world.sensors)
            if skipped > boots:
                world.fail(f"places: {name}: {skipped} times samples are left out without a declared gap")
            # A boot's clock is new: it may lie elsewhere by as much as the sensor took to start.
            if moved > 2 * boots + 2 * len(world.hosts):
                world.fail(f"places: {name}: {moved} times samples lie more than {PLACE_S:.0f} s from their place")


def coverage(world, recordings):
    """Every sample that was sent is in a recording, or lies in a gap that one declares."""
    covered = {}
    for folder, channels in recordings:
        labels = device_labels(folder)
        for channel in channels:
            if channel.samples:
                indices = [index for _, index in channel.samples]
                key = labels.get(channel.label, channel.label)
                covered.setdefault(key, []).append((min(indices), max(indices)))
    for sensor in world.sensors:
        for label, sent in sensor.tap.channels.items():
            missing = [block for block in sent.blocks if not is_covered(block, covered.get(label, []))
                       and not is_excused(world, sensor, block[0])]
            count = sum(block[3] for block in missing)
            if count > sent.rate_hz + EDGE:
                begin, end = ((block[0] - world.begun) * plans.SPEED for block in (missing[0], missing[-1]))
                world.fail(f"coverage: {count} samples of device {sensor.number} {label}, sent between {begin:.0f} s "
                           f"and {end:.0f} s, are in no recording and in no gap of one")


def device_labels(folder):
    """Of labels in the recording those of the device, which may differ."""
    try:
        saved = json.loads((folder / "session.json").read_text())
        return {channel["recorded_as"]: channel["label"] for channel in saved["channels"]}
    except (OSError, ValueError, KeyError):
        return {}


def is_covered(block, spans):
    _, _, first, count, _ = block
    return any(low - EDGE <= first and first + count - 1 <= high + EDGE for low, high in spans)


def is_excused(world, sensor, at_s):
    if any(excuse.begin_s <= at_s <= excuse.end_s and excuse.device in (None, sensor.number)
           for excuse in world.excuses):
        return True
    handshake_s = HANDSHAKE_S / plans.SPEED + HANDSHAKE_REAL_S + world.late_s
    # What comes while no host runs, and none goes on with the session, is nobody's.
    up = [(host.begun, host.gone) for host in world.hosts]
    return any(begin - 0.1 <= at_s <= begin + handshake_s for begin, _ in up) or at_s > world.over_s - 0.5


# --- files

def foreign_files(world):
    """No file of another session is touched, and none that is no session's."""
    for number, host in enumerate(world.hosts):
        before = world.snapshots[number]
        after = world.snapshots[number + 1]
        may_go_on = folders_of(world, number)
        for path, was in before.items():
            folder = path.parent
            if folder in may_go_on or any(str(path).startswith(name) for name in world.user_moved(number)):
                continue
            if path not in after:
                world.fail(f"foreign: {path} was removed by a later session ({host.patient})")
            elif after[path] != was:
                world.fail(f"foreign: {path} was changed by another session ({host.patient})")


def folders_of(world, number):
    """The folders that a host may write to though they were there before it: those of the last host, if this
    one goes on with its session."""
    if number == 0 or not goes_on(world, number):
        return set()
    earlier = set()
    for before in range(number, 0, -1):
        earlier |= written_by(world, before - 1)
        if before > 1 and not goes_on(world, before - 1):
            break
    return earlier


def goes_on(world, number):
    """Whether a host goes on with the session of the one before it."""
    last, this = world.hosts[number - 1], world.hosts[number]
    if last.patient != this.patient:
        return False
    has_id = this.patient[2] is not None and world.has_session_ids
    return has_id or last.ended[0] in ("kill", "crash")


def written_by(world, number):
    before, after = world.snapshots[number], world.snapshots[number + 1]
    return {path.parent for path, now in after.items() if before.get(path) != now}


def persons(world):
    """A folder is one person's: age and sex in it are those of every run that wrote to it."""
    for number, host in enumerate(world.hosts):
        for folder in written_by(world, number):
            try:
                saved = json.loads((world.place / folder / "session.json").read_text())
            except (OSError, ValueError):
                continue
            if (saved["age"], saved["sex"]) not in ((host.patient[0], host.patient[1]), (None, None)):
                world.fail(f"persons: {folder} is of a person of {saved['age']} ({saved['sex']}), and the session of "
                           f"{host.patient} wrote to it")


def gone_on(world):
    """A session that was cut goes on in its folder: by the same command, with the same sensors."""
    for number in range(1, len(world.hosts)):
        recorded = [{folder for folder in written_by(world, n) if (world.place / folder / "session.json").exists()}
                    for n in (number - 1, number)]
        whole = all(first_heard_s(sensor, world.hosts[n]) for sensor in world.sensors[:2] for n in (number - 1, number))
        moved = any(host in (number - 1, number) for host, _ in world.taken)
        if goes_on(world, number) and whole and recorded[0] and not moved and not recorded[0] & recorded[1]:
            names = ", ".join(sorted(map(str, recorded[0])))
            world.fail(f"goes on: the session in {names} was cut and did not go on there")


def folders(world):
    """After the end every folder recovers, opens and stages."""
    for path in sorted(world.place.rglob("recording.edf")):
        if path.relative_to(world.place) not in world.snapshots[0]:
            folder(world, path)


def folder(world, path):
    name, place = path.parent.relative_to(world.place), path.parent
    if not (place / "session.json").exists():
        world.fail(f"files: {name} has a recording and no session.json")
        return
    opens(world, path, "as it was left")
    run(world, name, (0, 3), "recover", place)
    opens(world, path, "after recover")
    again = world.folder / "again" / name
    run(world, name, (0,), "--replay", path, "--pass", "final", "--no-report", "--backend", "tract", "--out", again)
    rows = (again / "hypnogram.csv").read_text().splitlines() if (again / "hypnogram.csv").exists() else []
    wanted = sum(1 for _ in rows) > 1
    if not wanted and path.stat().st_size > 60_000:
        world.fail(f"files: {name} is not staged")


def run(world, name, codes, *arguments):
    command = [world.programs / "sfm-stream", *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    said = ran.stderr.strip().splitlines()[-1:] or [""]
    is_over = ran.returncode == 3 and "is over" in said[0]
    if ran.returncode not in codes or (ran.returncode == 3 and not is_over):
        world.fail(f"files: {arguments[0]} of {name} gave exit code {ran.returncode}: {said[0]}")


def opens(world, path, when):
    name = path.relative_to(world.place)
    if pyedflib is None:
        return
    with open(path, "rb") as file:
        header = file.read(256)
    is_holed = header[192:197] in (b"EDF+D", b"BDF+D")
    records = (path.stat().st_size - int(header[184:192])) // max(1, record_bytes(path))
    if records == 0:
        return
    try:
        if not is_holed:
            with pyedflib.EdfReader(str(path)) as reader:
                reader.readAnnotations()
        elif mne is not None:
            mne.io.read_raw_edf(str(path), verbose="error")
    except Exception as error:  # noqa: BLE001: whatever a foreign reader says against it
        world.fail(f"files: {name} does not open {when}: {error}")


def record_bytes(path):
    with open(path, "rb") as file:
        raw = file.read(256)
        count = int(raw[252:256])
        file.seek(256 + 216 * count)
        return 2 * sum(int(file.read(8)) for _ in range(count))


assert worlds.RECORDED_S * 64 < edf.MAX_SAMPLES
