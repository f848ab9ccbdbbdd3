"""Messages of sfm-stream in the JetStream of Debian's nats-server, read by nats-py: all of them, in
order, stored once, through a kill of the server; frames of signals; user and password; TLS with a
certificate of an authority of one's own.

    nats_jetstream.py [path of sfm-stream]
"""

import asyncio
import json
import math
import pathlib
import re
import signal
import ssl
import struct
import subprocess
import sys
import tempfile
import urllib.parse

from outage import (
    BEFORE_S, FAST, NAME, OUTAGE_S, SPEED, check_messages, events, free_port, kill, listens, long_night, need, program,
    run_until_the_end, stream, wait_for)

try:
    import nats
    from nats.js.api import ConsumerConfig, DeliverPolicy
except ImportError:
    print("skipped: nats-py is not installed")
    raise SystemExit(0)


class Server:
    def __init__(self, folder, *arguments):
        self.port = free_port()
        self.command = [program("nats-server"), "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd",
                        folder / f"jetstream-{self.port}", *arguments]
        self.process = None

    def start(self):
        self.process = run_until_the_end(self.command)
        assert wait_for(lambda: listens(self.port)), "nats-server does not start"
        return self

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait()


async def stored(url, **login):
    """(leaf, id, body) of everything in the stream, and its configuration."""
    connection = await nats.connect(url, **login)
    js = connection.jetstream()
    info = await js.stream_info("sfm")
    messages, levels = [], set()
    if info.state.messages:
        subscription = await js.subscribe("sfm.>", stream="sfm", ordered_consumer=True,
                                          config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL))
        while len(messages) < info.state.messages:
            message = await subscription.next_msg(timeout=5)
            _, level, leaf = message.subject.split(".")
            levels.add(level)
            messages.append((leaf, message.headers["Nats-Msg-Id"], message.data.decode()))
    await connection.close()
    return messages, levels, info.config


def check_frame(data, labels):
    """By the form that runtime/src/publish/frames.rs documents."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4:4 + length])
    assert header["frame"] == 1 and header["rate_hz"] == 128.0 and header["onset_s"] == 5.0 * header["patch"], header
    count = sum(channel["samples"] for channel in header["channels"])
    assert len(data) == 4 + length + 4 * count, (len(data), length, count)
    assert {channel["label"] for channel in header["channels"]} <= labels
    samples = struct.unpack_from(f"<{count}f", data, 4 + length)
    assert any(math.isfinite(sample) and sample != 0 for sample in samples)
    return header["pass"], header["patch"]


async def outage(binary, folder, recording):
    server = Server(folder).start()
    url, out, frames, statuses = f"nats://127.0.0.1:{server.port}", folder / "outage", [], []

    async def quiet(_error):
        pass

    connection = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=quiet)

    async def take(message):
        frames.append(message.data)

    async def health(message):
        statuses.append(json.loads(message.data)["status"])

    await connection.subscribe("sfm.*.frames", cb=take)
    await connection.subscribe("sfm.*.health", cb=health)
    await connection.flush()
    run = stream(binary, recording, out, "--speed", str(SPEED), "--nats", url, "--publish-frames")
    for _ in range(10 * BEFORE_S):
        await asyncio.sleep(0.1)
        if len(frames) > 60:
            break
    assert len(frames) > 60 and run.poll() is None, (len(frames), run.poll())
    server.stop()
    await asyncio.sleep(OUTAGE_S)
    assert run.poll() is None, run.stderr.read()
    server.start()
    told = (await asyncio.to_thread(run.communicate, timeout=600))[1]
    assert run.returncode == 0, told
    messages, levels, config = await stored(url)
    # JetStream keeps each id once: nothing is there to be dropped.
    counts = check_messages(messages, events(out))
    assert {urllib.parse.unquote(level) for level in levels} == {NAME}, levels
    assert config.duplicate_window == 86400 and "sfm.*.stage" in config.subjects, config
    assert not (out / "nats.outbox").exists()
    await asyncio.sleep(0.5)
    await connection.close()
    assert statuses[0] == "online" and statuses[-1] == "offline", statuses
    labels = {channel["label"] for channel in events(out)[0]["channels"]}
    patches = [check_frame(data, labels) for data in frames]
    assert len(set(patches)) == len(patches) and {"live"} <= {which for which, _ in patches}
    server.stop()
    print(f"outage of {OUTAGE_S} s: {counts} stored in order, each once; {len(frames)} frames")


async def killed(binary, folder, recording):
    """sfm-stream dies with messages in its outbox; the next run there delivers them."""
    server = Server(folder, "--user", "bed", "--pass", "secret").start()
    url, out, login = f"nats://127.0.0.1:{server.port}", folder / "killed", folder / "login"
    login.write_text("bed\nsecret\n")
    login.chmod(0o600)
    run = stream(binary, recording, out, "--speed", str(FAST), "--nats", url)
    assert wait_for(lambda: (out / "events.jsonl").exists() and len(events(out)) > 20, 60)
    kill(run)
    first = events(out)
    # Without the login nothing was delivered.
    run = stream(binary, "tests/data/mini/psg.edf", out, "--nats", url, "--nats-login", login, "--pass", "final")
    told = run.communicate(timeout=120)[1]
    assert run.returncode == 0 and "wait" not in told, told
    messages, levels, _ = await stored(url, user="bed", password="secret")
    sessions = list(dict.fromkeys(id.split("-")[0] for _, id, _ in messages))
    assert len(sessions) == 2 and {urllib.parse.unquote(level) for level in levels} == {NAME, "psg"}, (sessions, levels)
    second = [m for m in messages if m[1].startswith(sessions[1])]
    check_messages(second, events(out))
    epochs = sum(leaf == "epoch" for leaf, id, _ in messages if id.startswith(sessions[0]))
    wanted = sum(event["event"] == "epoch" for event in first)
    assert wanted - 1 <= epochs <= wanted, (epochs, wanted)
    server.stop()
    print(f"killed: the next run delivered {len(messages) - len(second)} messages of the one before, then its own")


def authority(folder, name):
    """An authority, and a certificate of it for this machine: its file, and the certificate's and key's."""
    ca, ca_key, certificate, key, request = (
        folder / f"{name}-{part}.pem" for part in ("ca", "ca-key", "cert", "key", "request"))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands = [
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", f"/CN={name}"],
        ["req", "-new", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate,
         "-days", "2", "-extfile", "/dev/stdin"],
    ]
    for command in commands:
        subprocess.run(["openssl", *command], check=True, capture_output=True,
                       input=b"subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    return ca, certificate, key


async def encrypted(binary, folder):
    """Over TLS everything arrives where the authority is known; else it waits, and a line says why."""
    ca, certificate, key = authority(folder, "ward")
    stranger, _, _ = authority(folder, "stranger")
    server = Server(folder, "--tls", "--tlscert", certificate, "--tlskey", key).start()
    recording = "tests/data/mini/psg.edf"
    login = {"tls": ssl.create_default_context(cafile=ca)}
    for number, host in enumerate(("localhost", "127.0.0.1")):
        url, out = f"tls://{host}:{server.port}", folder / f"encrypted-{host}"
        for more in ([], ["--ca-file", stranger]):
            run = stream(binary, recording, out, "--pass", "final", "--nats", url, *more)
            told = (await asyncio.to_thread(run.communicate, timeout=60))[1]
            assert run.returncode == 0, told
            (waits,) = [line for line in told.splitlines() if "wait" in line]
            assert re.search(rf"{re.escape(url)}: [1-9]\d* messages wait in .*certificate.*--nats {re.escape(url)}", waits), told
            assert (out / "nats.outbox").stat().st_size > 0
        run = stream(binary, recording, out, "--pass", "final", "--nats", url, "--ca-file", ca)
        told = (await asyncio.to_thread(run.communicate, timeout=60))[1]
        assert run.returncode == 0 and "wait" not in told and not (out / "nats.outbox").exists(), told
        messages, _, _ = await stored(f"tls://localhost:{server.port}", **login)
        # The three runs of each folder, each a session of its own; then the next folder's.
        sessions = list(dict.fromkeys(id.split("-")[0] for _, id, _ in messages))
        assert len(sessions) == 3 * (number + 1), sessions
        for session in sessions[-3:]:
            check_messages([m for m in messages if m[1].startswith(session)], events(out))
    server.stop()
    print(f"TLS: {len(messages)} messages of {len(sessions)} runs delivered with the authority's file; without it: {waits}")


def main():
    need("nats-server")
    binary = sys.argv[1] if len(sys.argv) > 1 else "target/release/sfm-stream"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        recording = folder / f"{NAME}.edf"
        long_night(recording)
        asyncio.run(outage(binary, folder, recording))
        asyncio.run(killed(binary, folder, recording))
        asyncio.run(encrypted(binary, folder))


if __name__ == "__main__":
    main()
