"""The scenario of a seed: what happens when, and to whom. The same seed gives the same plan, whatever
the machine. Times are seconds of the session, which runs at `SPEED` times real time.
"""

import dataclasses
import random

SPEED = 8
# The session is left alone for so long at the beginning, and between two faults.
CALM_S = (28, 36)
# How long a fault lasts: long enough that a silence of 10 s has to be reported.
HOLD_S = (30, 40)
# Faults of a scenario.
FAULTS = (4, 5)
LONGEST_S = 600

DEVICE_FAULTS = ("die", "hang", "unplug", "move", "reboot", "double", "leave", "late", "all_die")
HOST_FAULTS = ("host_kill", "host_term", "host_stop", "patient", "session_id")
PLACE_FAULTS = ("disk_full", "out_removed", "out_renamed", "stderr_stalled", "clock_step", "strangers")
ALL = DEVICE_FAULTS + HOST_FAULTS + PLACE_FAULTS


@dataclasses.dataclass(frozen=True)
class Step:
    at_s: float
    what: str
    # The sensor that it happens to, counted from 0; None where it is no sensor's.
    device: int | None = None
    hold_s: float = 0.0
    detail: object = None

    def __str__(self):
        who = "" if self.device is None else f" device {self.device}"
        hold = f" for {self.hold_s:.0f} s" if self.hold_s else ""
        detail = "" if self.detail is None else f" {self.detail}"
        return f"{self.at_s:6.1f} s  {self.what}{who}{detail}{hold}"


@dataclasses.dataclass(frozen=True)
class Plan:
    seed: int
    # "one": a session of all sensors; "beds": a session each.
    topology: str
    # How each sensor is connected; the last is the one that comes late, if it does.
    links: tuple
    # Age, sex and session's id of the first patient.
    patient: tuple
    # What is in the folder before the first start.
    before: str
    steps: tuple
    # How it ends: "bye", "term" or "kill".
    end: str
    end_s: float

    def __str__(self):
        lines = [f"seed {self.seed}: {self.topology}, {', '.join(self.links)}, patient {self.patient}, "
                 f"before: {self.before}"]
        return "\n".join([*lines, *map(str, self.steps), f"{self.end_s:6.1f} s  end: {self.end}"])


def uniform(rng, bounds):
    return round(rng.uniform(*bounds), 1)


def make(seed, only=()):
    """The plan of `seed`; `only` names the faults that may occur, for a look at one of them."""
    rng = random.Random(seed)
    topology = rng.choice(["one", "one", "beds"])
    links = tuple(rng.choice(["udp", "udp", "tcp"]) for _ in range(3))
    session_id = rng.choice([None, None, "night-1"]) if topology == "one" else None
    patient = (rng.randint(20, 80), rng.choice("fm"), session_id)
    before = rng.choice(["nothing", "nothing", "foreign recording", "damaged session.json"])
    kinds = pick(rng, topology, only)
    steps, at_s = [], uniform(rng, CALM_S)
    for kind in kinds:
        hold_s = uniform(rng, HOLD_S) * (2.3 if kind == "all_die" else 1)
        step = Step(round(at_s, 1), kind, *aim(rng, kind, hold_s))
        steps.append(step)
        # Now and then the next fault does not wait until this one is over.
        after_s = step.hold_s if rng.random() > 0.2 or kind in ("patient", "host_term") else step.hold_s / 2
        at_s += after_s + uniform(rng, CALM_S)
    end = rng.choice(["bye", "term", "term", "kill"])
    return Plan(seed, topology, links, patient, before, tuple(steps), end, round(at_s, 1))


def pick(rng, topology, only):
    """Different faults, of sensors, of the host and of the place."""
    possible = [kind for kind in ALL if not only or kind in only]
    if topology == "beds":
        # Each sensor has a bed of its own there, and the ids of sessions would name sensors.
        possible = [kind for kind in possible if kind not in ("late", "session_id")]
    count = min(rng.randint(*FAULTS), len(possible))
    return rng.sample(possible, count)


def aim(rng, kind, hold_s):
    """Sensor, duration and detail of a fault."""
    device = rng.randrange(2)
    if kind in ("die", "hang", "leave", "unplug"):
        return device, hold_s
    if kind == "move":
        return device, 0.0, rng.choice(["another port", "another address", "left half-open"])
    if kind == "reboot":
        return device, rng.choice([0.0, 4.0])
    if kind == "double":
        return device, hold_s
    if kind == "late":
        return 2, 0.0
    if kind in ("all_die", "disk_full", "stderr_stalled"):
        return None, hold_s
    if kind == "host_kill":
        return None, rng.choice([0.0, 12.0, hold_s])
    if kind == "host_stop":
        return None, rng.choice([6.0, hold_s])
    if kind == "host_term":
        return None, rng.choice([0.0, 12.0])
    if kind == "patient":
        return None, 8.0, rng.choice(["other person", "other person", "other person after a kill"])
    if kind == "session_id":
        return None, 8.0, rng.choice(["the same", "another"])
    if kind == "clock_step":
        return None, 0.0, rng.choice([-900, -61, -3, 2, 45, 700])
    if kind == "strangers":
        return None, hold_s, rng.choice(["scan", "garbage", "half-open", "hostile"])
    return None, 0.0
