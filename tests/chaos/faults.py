"""What happens in a scenario: for every kind of step a function that begins it and returns what ends it,
or None. A step that is not possible now, because another one is at work on the same sensor or host, says
so and does nothing."""

import random
import shutil
import signal
import socket
import subprocess
import time

import plan as plans
import tap as taps

# Samples that a killed host may lose: those in its memory and what the disk had not yet, seconds of the
# session and real ones.
TAIL_S = 10.0
TAIL_REAL_S = 1.0
# A stranger's connections and datagrams.
SCANS, HALF_OPEN, ADDRESSES, DATAGRAMS = 400, 100, 300, 3000


class NotNow(Exception):
    """Another step is at work here."""


def real(seconds):
    return seconds / plans.SPEED


def sensor_of(world, step):
    sensor = world.sensors[step.device]
    if sensor.is_busy or not sensor.is_on():
        raise NotNow(f"device {step.device} is busy or off")
    return sensor


def hold(sensor):
    sensor.is_busy = True


def switch_on(world, sensor):
    sensor.is_busy = False
    if not sensor.is_on():
        sensor.switch_on(world.now_s())


# --- sensors

def die(world, step):
    sensor = sensor_of(world, step)
    hold(sensor)
    sensor.lose_power()
    return lambda: switch_on(world, sensor)


reboot = die


def hang(world, step):
    sensor = sensor_of(world, step)
    hold(sensor)
    sensor.signal(signal.SIGSTOP)

    def end():
        sensor.is_busy = False
        sensor.signal(signal.SIGCONT)
    return end


def unplug(world, step):
    sensor = sensor_of(world, step)
    hold(sensor)
    sensor.tap.plugged = False

    def end():
        sensor.is_busy = False
        sensor.tap.plugged = True
    return end


def move(world, step):
    sensor = sensor_of(world, step)
    source = f"127.0.0.{random.Random(step.at_s).randint(2, 250)}" if step.detail == "another address" else "127.0.0.1"
    sensor.tap.move(source, quietly=step.detail == "left half-open")


def double(world, step):
    """Another sensor under the same number."""
    sensor = sensor_of(world, step)
    hold(sensor)
    twin = taps.Tap("twin", sensor.kind, sensor.tap.host)
    # A session is a random number after each boot, so the two have not the same.
    twin.boot = sensor.tap.boot + 1000
    world.taps.taps.append(twin)
    process = sensor.play(twin, world.now_s())
    world.extra.append(process)
    excuse = world.excuse(0, 1e9, "two sensors under one number", step.device)

    def end():
        process.kill()
        process.wait()
        twin.hang_up()
        sensor.is_busy = False
        # From here on there is one sensor again, to be heard within the bound.
        excuse.end_s = time.monotonic() + real(TAIL_S) + TAIL_REAL_S
        if not sensor.is_on():
            sensor.switch_on(world.now_s())
    return end


def leave(world, step):
    sensor = sensor_of(world, step)
    hold(sensor)
    sensor.leave()
    world.left.append((step.device, time.monotonic()))
    return lambda: switch_on(world, sensor)


def late(world, step):
    world.sensors[step.device].switch_on(world.now_s())


def all_die(world, step):
    chosen = [sensor for sensor in world.sensors if sensor.is_on() and not sensor.is_busy]
    for sensor in chosen:
        hold(sensor)
        sensor.lose_power()
    return lambda: [switch_on(world, sensor) for sensor in chosen]


# --- the host

def need_host(world):
    if world.host.ended or world.host.is_stopped(time.monotonic()):
        raise NotNow("sfm-stream is down or stopped")


def tail(world, why):
    """What a host that does not come back to this session may lose of it."""
    return world.excuse(real(TAIL_S) + TAIL_REAL_S, 0, why)


def host_kill(world, step):
    need_host(world)
    world.end_host("kill")
    return lambda: restart(world)


def restart(world, patient=None):
    world.start_host(patient)
    for sensor in world.sensors[:2]:
        if not sensor.is_busy and not sensor.is_on():
            sensor.switch_on(world.now_s())


def ends_session(world, how):
    """Ends the host for another session: what is sent until that one runs belongs to none."""
    need_host(world)
    excuse = tail(world, "between two sessions")
    world.end_host(how)
    excuse.end_s = 1e12
    return excuse


def begin_session(world, excuse, patient):
    restart(world, patient)
    excuse.end_s = time.monotonic()


def host_term(world, step):
    excuse = ends_session(world, "term")
    return lambda: begin_session(world, excuse, world.patient)


def next_id(session_id):
    return None if session_id is None else f"night-{int(session_id.split('-')[1]) + 1}"


def patient(world, step):
    excuse = ends_session(world, "kill" if step.detail.endswith("kill") else "term")
    age, sex, session_id = world.patient
    other = (age + 7, "m" if sex == "f" else "f", next_id(session_id))
    return lambda: begin_session(world, excuse, other)


def session_id(world, step):
    if not world.has_session_ids:
        raise NotNow("this sfm-stream knows no --session")
    excuse = ends_session(world, "term")
    age, sex, known = world.patient
    wanted = known if step.detail == "the same" and known else next_id(known or "night-0")
    return lambda: begin_session(world, excuse, (age, sex, wanted))


def host_stop(world, step):
    need_host(world)
    stopped = world.host
    stopped.stop()
    return stopped.go_on


# --- the place

def disk_full(world, step):
    if not world.is_mounted:
        raise NotNow("no disk of its own")
    world.fill_disk()
    excuse = world.excuse(real(TAIL_S), 1e9, "the disk is full")

    def end():
        world.free_disk()
        excuse.end_s = time.monotonic() + real(TAIL_S) + TAIL_REAL_S
    return end


def at_work(world):
    """The folder that was recorded into last."""
    recordings = [path for path in world.place.rglob("recording.edf") if (path.parent / "session.json").exists()]
    if not recordings:
        raise NotNow("there is no recording yet")
    return max(recordings, key=lambda path: path.stat().st_mtime_ns).parent


def take_away(world, folder):
    world.taken.append((len(world.hosts) - 1, folder.relative_to(world.place)))


def out_renamed(world, step):
    need_host(world)
    folder = at_work(world)
    world.renamed += 1
    take_away(world, folder)
    folder.rename(world.place / f"moved-{world.renamed}")
    world.excuse(real(TAIL_S) + TAIL_REAL_S, real(TAIL_S) + TAIL_REAL_S, "the folder was renamed")


def out_removed(world, step):
    need_host(world)
    folder = at_work(world)
    take_away(world, folder)
    shutil.rmtree(folder)
    # What was in it is gone by will.
    world.excuse(1e9, real(TAIL_S) + TAIL_REAL_S, "the folder was removed")


def stderr_stalled(world, step):
    need_host(world)
    stalled = world.host
    stalled.stall_stderr()
    knock(world, "scan")
    return stalled.reading.set


def clock_step(world, step):
    if world.clock_file is None:
        raise NotNow("no libfaketime (Debian's package of that name)")
    world.set_clock(world.clock_s + step.detail)


def strangers(world, step):
    need_host(world)
    return knock(world, step.detail)


def knock(world, how):
    if how == "scan":
        scan(("127.0.0.1", world.tcp), SCANS)
        scan(("127.0.0.1", world.metrics), SCANS // 8)
        return None
    if how == "garbage":
        return garbage(world)
    if how == "half-open":
        held = [connected(("127.0.0.1", world.tcp)) for _ in range(HALF_OPEN)]
        return lambda: [sock.close() for sock in held if sock]
    kind = random.Random(world.plan.seed).choice(["garbage", "hellos", "huge-counters", "channels"])
    command = [world.programs / "sfm-sim", "--udp", f"127.0.0.1:{world.udp}", "--hostile", kind, "--duration", "60"]
    process = subprocess.Popen([*command, "--seed", "99", "--speed", "8"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    world.extra.append(process)
    return process.kill


def connected(address):
    try:
        return socket.create_connection(address, timeout=0.2)
    except OSError:
        return None


def scan(address, count):
    for _ in range(count):
        sock = connected(address)
        if sock is None:
            # It does not take them any more, which is no stranger's fault to wait for.
            return
        taps.reset(sock)


def garbage(world):
    rng = random.Random(world.plan.seed)
    senders = []
    for number in range(ADDRESSES):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((f"127.0.{1 + number // 250}.{1 + number % 250}", 0))
        senders.append(sock)
    for number in range(DATAGRAMS):
        senders[number % ADDRESSES].sendto(rng.randbytes(rng.randint(1, 600)), ("127.0.0.1", world.udp))
        if number % 100 == 0:
            time.sleep(0.01)
    for sock in senders:
        sock.close()


BY_NAME = {name: globals()[name] for name in plans.ALL}
