"""Messages of sfm-stream as paho-mqtt gets them from Debian's mosquitto: all of them, in order, none
twice by its id, through an outage of the broker, a kill of sfm-stream and a session that goes on after
one; retained state, last will, user and password, TLS.

    mqtt.py [folder of sfm-stream and sfm-sim]
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

from outage import (
    BEFORE_S, FAST, NAME, OUTAGE_S, SPEED, canonical, check_messages, events, free_port, kill, listens, long_night, need, program,
    run_until_the_end, stream, wait_for)

try:
    import paho.mqtt.client as paho
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties
except ImportError:
    print("skipped: paho-mqtt is not installed")
    raise SystemExit(0)

IN_FLIGHT = 16
# A broker that was killed may have forgotten them, and gets them again.
RETAINED = ("started", "stage", "night")


class Broker:
    """mosquitto on a free port, which keeps sessions and retained messages over a stop."""

    def __init__(self, folder, *more):
        self.port = free_port()
        self.conf = folder / f"mosquitto-{self.port}.conf"
        state = folder / f"state-{self.port}"
        state.mkdir()
        anonymous = [] if any("allow_anonymous" in line for line in more) else ["allow_anonymous true"]
        persistent = [] if "persistence false" in more else [
            "persistence true", f"persistence_location {state}/"]
        user = [f"user {os.environ.get('USER', 'root')}"] if os.geteuid() == 0 else []
        lines = [f"listener {self.port} 127.0.0.1", *anonymous, *persistent, "max_queued_messages 0", *user, *more]
        self.conf.write_text("\n".join(lines) + "\n")
        self.process = None

    def start(self):
        self.process = run_until_the_end([program("mosquitto"), "-c", self.conf])
        assert wait_for(lambda: listens(self.port)), "mosquitto does not start"
        return self

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()


class Door:
    """sfm-stream's way to the broker. Closed until the judge has subscribed again: mosquitto that was
    killed keeps no messages for a subscriber that is not there, however persistent."""

    def __init__(self, broker_port):
        self.broker_port, self.port = broker_port, free_port()
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.serve, args=(self.listener,), daemon=True).start()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self, listener):
        while True:
            try:
                inside, _ = listener.accept()
                outside = socket.create_connection(("127.0.0.1", self.broker_port))
            except OSError:
                return
            for pair in ((inside, outside), (outside, inside)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Subscriber:
    """Keeps everything that comes, over reconnections."""

    def __init__(self, port, name="judge"):
        self.messages, self.ready, self.lock = [], 0, threading.Lock()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv5)
        about = Properties(PacketTypes.CONNECT)
        about.SessionExpiryInterval = 7200
        self.client.on_connect = self.connected
        self.client.on_message = self.message
        self.client.on_subscribe = self.subscribed
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port, clean_start=paho.MQTT_CLEAN_START_FIRST_ONLY, properties=about)
        self.client.loop_start()
        assert wait_for(lambda: self.ready == 1)

    def connected(self, client, _data, flags, reason, _properties):
        assert not reason.is_failure, reason
        if flags.session_present:
            self.ready += 1
        else:
            client.subscribe("sfm/#", qos=1)

    def subscribed(self, *_):
        self.ready += 1

    def message(self, _client, _data, message):
        ids = dict(getattr(message.properties, "UserProperty", [])).get("id")
        with self.lock:
            self.messages.append((message.topic, ids, message.payload.decode(), message.retain, message.dup))

    def of(self, *leaves):
        """(leaf, id, body) in the order they came; without leaves all but health."""
        with self.lock:
            parted = [(topic.rsplit("/", 1)[1], id, body) for topic, id, body, _, _ in self.messages]
        return [m for m in parted if (m[0] in leaves if leaves else m[0] != "health")]

    def health(self):
        return [json.loads(body)["status"] for _, _, body in self.of("health")]

    def close(self):
        self.client.loop_stop()
        self.client.disconnect()


def first_ones(messages):
    """Without repeats by id; how many there were."""
    kept = list({id: (leaf, id, body) for leaf, id, body in reversed(messages)}.values())[::-1]
    return kept, len(messages) - len(kept)


def retained(port):
    """What a new subscriber is told at once, by leaf."""
    fresh = Subscriber(port, "fresh")
    time.sleep(0.7)
    fresh.close()
    with fresh.lock:
        there = [(topic, body) for topic, _, body, retain, _ in fresh.messages if retain]
    return {topic.rsplit("/", 1)[1]: json.loads(body) for topic, body in there}


def outage(binary, folder, recording):
    broker = Broker(folder).start()
    judge = Subscriber(broker.port)
    door, out = Door(broker.port), folder / "outage"
    run = stream(binary, recording, out, "--speed", str(SPEED), "--mqtt", f"mqtt://127.0.0.1:{door.port}")
    assert wait_for(lambda: len(judge.of()) > 40, BEFORE_S), (run.poll(), len(judge.of()))
    before = retained(broker.port)
    assert before["health"]["status"] == "online" and before["stage"]["event"] == "epoch", before
    broker.stop()
    door.close()
    cut = len(judge.of())
    time.sleep(OUTAGE_S)
    file_bytes = (out / "mqtt.outbox").stat().st_size
    assert run.poll() is None, run.stderr.read()
    broker.start()
    assert wait_for(lambda: judge.ready == 2)
    door.open()
    _, told = run.communicate(timeout=600)
    assert run.returncode == 0, told
    assert wait_for(lambda: judge.health()[-1] == "offline")
    assert "wait" not in told, told
    messages, repeats = first_ones(judge.of())
    counts = check_messages(messages, events(out))
    assert repeats <= IN_FLIGHT + len(RETAINED), repeats
    level = judge.messages[0][0].split("/")[1]
    assert re.fullmatch(r"[A-Za-z0-9_%-]+", level) and urllib.parse.unquote(level) == NAME, level
    assert len({topic.split("/")[1] for topic, *_ in judge.messages}) == 1
    after = retained(broker.port)
    assert after["night"]["pass"] == "final" and after["stage"]["status"] == "final", after
    assert after["health"]["status"] == "offline" and after["started"]["caution"], after
    assert not (out / "mqtt.outbox").exists(), "all is delivered"
    judge.close()
    broker.stop()
    print(f"outage of {OUTAGE_S} s after {cut} messages: {counts} arrived in order, {repeats} repeats by id on the "
          f"wire (at most {IN_FLIGHT + len(RETAINED)}); the outbox had {file_bytes} bytes")


def forgetful(binary, folder, recording):
    """A broker that keeps nothing gets what was retained again."""
    broker = Broker(folder, "persistence false").start()
    out = folder / "forgetful"
    run = stream(binary, recording, out, "--speed", "20", "--pass", "live", "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
    assert wait_for(lambda: (out / "events.jsonl").exists() and sum(e["event"] == "epoch" for e in events(out)) > 3, 60)
    time.sleep(1)
    broker.stop()
    broker.start()
    assert wait_for(lambda: {"started", "stage", "health"} <= set(retained(broker.port)), 20), "retained state is back"
    kill(run)
    broker.stop()
    print("a broker that forgot everything has the retained state again")


def killed(binary, folder, recording):
    broker = Broker(folder).start()
    judge = Subscriber(broker.port)
    out = folder / "killed"
    arguments = ("--speed", str(FAST), "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
    run = stream(binary, recording, out, *arguments)
    assert wait_for(lambda: len(judge.of()) > 20, 60)
    kill(run)
    assert wait_for(lambda: judge.health()[-1:] == ["offline"]), judge.health()
    will = json.loads(judge.of("health")[-1][2])
    assert will["why"] == "the connection was lost", will
    told_first = events(out)
    # Again in the same folder, while the broker is down for the most part.
    seen = len(judge.of())
    run = stream(binary, recording, out, *arguments)
    assert wait_for(lambda: len(judge.of()) > seen + 10, 60)
    broker.stop(signal.SIGTERM)
    time.sleep(3)
    kill(run)
    outbox = out / "mqtt.outbox"
    assert outbox.stat().st_size > 0
    broker.start()
    assert wait_for(lambda: judge.ready == 2)
    delivered = subprocess.run([binary, "deliver", out, "--mqtt", f"mqtt://127.0.0.1:{broker.port}"],
                               capture_output=True, text=True, timeout=60)
    assert delivered.returncode == 0 and "messages delivered" in delivered.stderr, delivered.stderr
    assert not outbox.exists()
    wait_for(lambda: len(judge.of()) > len(events(out)), 3)
    messages, repeats = first_ones(judge.of())
    sessions = list(dict.fromkeys(id.split("-")[0] for _, id, _ in messages))
    assert len(sessions) == 2 and repeats <= 2 * IN_FLIGHT, (sessions, repeats)
    for session, told in zip(sessions, (told_first, events(out))):
        # The last event may have come to the file alone.
        check_messages([m for m in messages if m[1].startswith(session)], told, missing_at_the_end=1)
    refused = subprocess.run([binary, "deliver", out, "--mqtt", f"mqtt://127.0.0.1:{broker.port}"],
                             capture_output=True, text=True)
    assert refused.returncode == 5 and refused.stderr.count("\n") == 1, refused.stderr
    judge.close()
    broker.stop()
    print(f"killed: the last will said so; what waited was delivered later, {repeats} repeats; {delivered.stderr.strip()}")


def resumed(binary, simulator, folder):
    """A live session that is killed and goes on says nothing again, and leaves nothing out."""
    broker = Broker(folder).start()
    judge = Subscriber(broker.port)
    recording, out, sensors = folder / "sensors.edf", folder / "bed", f"127.0.0.1:{free_port()}"
    long_night(recording, times=4)
    command = [binary, "--udp", sensors, "--devices", "2", "--speed", "60", "--out", out, "--backend", "tract",
               "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
    run = run_until_the_end(command, stderr=subprocess.PIPE, text=True)
    assert wait_for(lambda: "waiting for sensors" in run.stderr.readline())
    run_until_the_end([simulator, recording, "--udp", sensors, "--sensors", "2", "--speed", "60"])

    def statuses():
        return [json.loads(body)["status"] for _, _, body in judge.of("epoch")]

    assert wait_for(lambda: "settled" in statuses() and statuses()[-1] == "provisional", 60), statuses()
    kill(run)
    before = len(judge.of())
    run = run_until_the_end(command, stderr=subprocess.PIPE, text=True)
    told = run.communicate(timeout=120)[1]
    assert run.returncode == 0 and not (out / "mqtt.outbox").exists(), told
    assert wait_for(lambda: judge.health()[-1] == "offline")
    messages, repeats = first_ones(judge.of())
    assert repeats <= IN_FLIGHT and len({id.split("-")[0] for _, id, _ in messages}) == 1, repeats
    contents = [(leaf, canonical(json.loads(body))) for leaf, _, body in messages]
    assert len(set(contents)) == len(contents), "something was said again"
    said = {content for _, content in contents}
    left_out = [event for event in events(out) if canonical(event) not in said]
    assert not left_out, left_out[:3]
    beds = [said["bed"] for _, _, body in judge.of("health") if "bed" in (said := json.loads(body))]
    phases = {(bed["phase"], bed["status"], bed["links_up"]) for bed in beds}
    # The final pass may be over before the next look at the session's phase.
    assert ("live", "ok", 2) in phases, phases
    leaves = {leaf for leaf, _ in contents}
    assert {"gap", "night", "started", "stage"} <= leaves, leaves
    judge.close()
    broker.stop()
    print(f"a session killed after {before} messages went on: {len(messages)} in all, {repeats} repeats, none again")


def silent(binary, simulator, folder):
    """Sensors that are killed: `health` says so, and that they are back."""
    broker = Broker(folder).start()
    judge = Subscriber(broker.port)
    recording, sensors = folder / "sensors.edf", f"127.0.0.1:{free_port()}"
    long_night(recording, times=10)
    run_until_the_end([binary, "--udp", sensors, "--speed", "20", "--out", folder / "silent", "--backend", "tract",
                       "--mqtt", f"mqtt://127.0.0.1:{broker.port}"], stderr=subprocess.DEVNULL)
    sensor = [simulator, recording, "--udp", sensors, "--speed", "20"]

    def last():
        beds = [said["bed"] for _, _, body in judge.of("health") if "bed" in (said := json.loads(body))]
        return (beds[-1]["status"], beds[-1]["reasons"]) if beds else ("", [])

    first = run_until_the_end(sensor)
    assert wait_for(lambda: last() == ("ok", []), 60), last()
    kill(first)
    assert wait_for(lambda: last()[0] == "failing", 60), last()
    assert last()[1][0].startswith("nothing has arrived for "), last()
    assert any("no samples for" in reason for reason in last()[1]), last()
    beds = [said["bed"] for _, _, body in judge.of("health") if "bed" in (said := json.loads(body))]
    assert any(bed["status"] == "degraded" and "no samples for" in bed["reasons"][-1] for bed in beds), beds
    run_until_the_end(sensor)
    assert wait_for(lambda: last() == ("ok", []), 60), last()
    judge.close()
    broker.stop()
    print(f"silent: {len(beds)} messages said that sensors were killed")


def finished(binary, recording, out, *arguments):
    run = stream(binary, recording, out, "--pass", "final", *arguments)
    _, told = run.communicate(timeout=120)
    assert run.returncode == 0, told
    return told


def guarded(binary, folder):
    """User and password, TLS: right ones work, wrong ones leave the messages in the outbox."""
    recording, passwords = "tests/data/mini/psg.edf", folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "bed", "se cret"], check=True, capture_output=True)
    passwords.chmod(0o644)
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"],
                   check=True, capture_output=True)
    broker = Broker(folder, "allow_anonymous false", f"password_file {passwords}",
                    f"certfile {certificate}", f"keyfile {key}").start()
    url, out = f"mqtts://localhost:{broker.port}", folder / "guarded"
    login, wrong = folder / "login", folder / "wrong"
    login.write_text("bed\nse cret\n")
    wrong.write_text("bed\nsecret\n")
    login.chmod(0o600), wrong.chmod(0o600)
    told = finished(binary, recording, out, "--mqtt", url, "--mqtt-login", login)
    assert "messages wait" in told and "certificate" in told.lower(), told
    told = finished(binary, recording, out, "--mqtt", url, "--mqtt-login", wrong, "--ca-file", certificate)
    assert "messages wait" in told and "secret" not in told, told
    told = finished(binary, recording, out, "--mqtt", url, "--mqtt-login", login, "--ca-file", certificate)
    assert "wait" not in told and not (out / "mqtt.outbox").exists(), told
    login.chmod(0o644)
    refused = stream(binary, recording, out, "--mqtt", url, "--mqtt-login", login)
    assert "chmod 600" in refused.communicate()[1] and refused.returncode == 2
    broker.stop()
    print("TLS and a password: delivered with the right ones, kept with the wrong ones")


def main():
    need("mosquitto")
    programs = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release")
    binary = programs / "sfm-stream"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        recording = folder / f"{NAME}.edf"
        long_night(recording)
        outage(binary, folder, recording)
        killed(binary, folder, recording)
        forgetful(binary, folder, recording)
        resumed(binary, programs / "sfm-sim", folder)
        silent(binary, programs / "sfm-sim", folder)
        guarded(binary, folder)


if __name__ == "__main__":
    main()
