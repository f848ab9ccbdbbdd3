"""The wire protocol, written from firmware-bridge/PROTOCOL.md alone: standard library only.

    wire_protocol.py check GOLDEN.json   decode and encode the golden vectors; exit 1 if one differs
    wire_protocol.py send                write a session of one sensor to standard output, with noise
    wire_protocol.py receive             read frames from standard input, print a line of JSON each
    wire_protocol.py host COMMAND...     be the host of a device, a program that speaks on its standard input
                                         and output: two blocks of each channel; exit 1 if it does not
                                         follow the page or takes more than 2 minutes
"""

import json
import os
import selectors
import struct
import subprocess
import sys
import time
import zlib

MAX_FRAME_BYTES = 1024
SCHEMA = "f794d790cd24926f"
FORMAT_BYTES = {"I16": 2, "I24": 3, "I32": 4}

FORMATS = [*FORMAT_BYTES, "Delta"]
MAX_DELTA_SAMPLES = 1024
MARKS = ["Button", "LightsOff", "LightsOn"]
REASONS = ["Stopped", "Battery", "Fault"]

FROM_DEVICE = [
    ("Hello", [("protocol", "u16"), ("schema", "bytes8"), ("device", "u64"), ("session", "u64"),
               ("tick_hz", "u32"), ("channels", "u8"), ("model", "text")]),
    ("Channel", [("channel", "u8"), ("label", "text"), ("unit", "text"), ("samples", "u32"),
                 ("seconds", "u32"), ("digital_min", "i32"), ("digital_max", "i32"),
                 ("physical_min", "f32"), ("physical_max", "f32"), ("bits", "u8")]),
    ("Samples", [("channel", "u8"), ("counter", "u64"), ("tick", "u64"), ("format", FORMATS),
                 ("payload", "bytes")]),
    ("Mark", [("number", "u32"), ("tick", "u64"), ("kind", MARKS)]),
    ("Status", [("tick", "u64"), ("battery_percent", "u8?"),
                ("temperature_decicelsius", "i16?"), ("dropped_blocks", "u32")]),
    ("Contact", [("channel", "u8"), ("tick", "u64"), ("lead_off", "bool"),
                 ("impedance_ohm", "u32?")]),
    ("TimeReply", [("request", "u32"), ("received_tick", "u64"), ("sent_tick", "u64")]),
    ("Bye", [("reason", REASONS)]),
]
FROM_HOST = [
    ("Start", []),
    ("Stop", []),
    ("TimeRequest", [("request", "u32")]),
    ("Acknowledge", [("channel", "u8"), ("counter", "u64")]),
]
DIRECTIONS = {"device": FROM_DEVICE, "host": FROM_HOST}


class Refused(ValueError):
    """A frame that has to be thrown away."""


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return value * 2 if value >= 0 else -value * 2 - 1


def write(kind, value):
    if isinstance(kind, list):
        return varint(kind.index(value))
    if kind.endswith("?"):
        return b"\0" if value is None else b"\1" + write(kind[:-1], value)
    if kind in ("u8", "bool"):
        return bytes([value])
    if kind in ("u16", "u32", "u64"):
        assert 0 <= value < 1 << int(kind[1:])
        return varint(value)
    if kind in ("i16", "i32"):
        return varint(zigzag(value))
    if kind == "f32":
        return struct.pack("<f", value)
    if kind == "bytes8":
        return bytes.fromhex(value)
    raw = value.encode() if kind == "text" else bytes.fromhex(value)
    return varint(len(raw)) + raw


class Reader:
    def __init__(self, raw):
        self.raw, self.at = raw, 0

    def take(self, count):
        piece = self.raw[self.at:self.at + count]
        if len(piece) < count:
            raise Refused("cut short")
        self.at += count
        return piece

    def varint(self, bits):
        value = 0
        for shift in range(0, bits, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >> bits:
                    raise Refused("number too large")
                return value
        raise Refused("number too long")

    def read(self, kind):
        if isinstance(kind, list):
            number = self.varint(32)
            if number >= len(kind):
                raise Refused("unknown choice")
            return kind[number]
        if kind.endswith("?"):
            return self.read(kind[:-1]) if self.read("bool") else None
        if kind == "bool":
            byte = self.take(1)[0]
            if byte > 1:
                raise Refused("no bool")
            return byte == 1
        if kind == "u8":
            return self.take(1)[0]
        if kind in ("u16", "u32", "u64"):
            return self.varint(int(kind[1:]))
        if kind in ("i16", "i32"):
            zigzag = self.varint(int(kind[1:]))
            return zigzag >> 1 if zigzag % 2 == 0 else -(zigzag >> 1) - 1
        if kind == "f32":
            return struct.unpack("<f", self.take(4))[0]
        if kind == "bytes8":
            return self.take(8).hex()
        raw = self.take(self.varint(32))
        return raw.decode() if kind == "text" else raw.hex()


def pack(form, values):
    """The payload of `values`."""
    if form in FORMAT_BYTES:
        return b"".join(v.to_bytes(FORMAT_BYTES[form], "little", signed=True) for v in values)
    assert len(values) <= MAX_DELTA_SAMPLES
    if not values:
        return varint(0)
    steps = [zigzag(signed(b - a)) for a, b in zip(values, values[1:])]
    width = max((step.bit_length() for step in steps), default=0)
    bits = sum(step << i * width for i, step in enumerate(steps))
    packed = bits.to_bytes((len(steps) * width + 7) // 8, "little")
    return varint(len(values)) + bytes([width]) + varint(zigzag(values[0])) + packed


def unpack(form, payload):
    """The values of a payload."""
    if form in FORMAT_BYTES:
        width = FORMAT_BYTES[form]
        if len(payload) % width:
            raise Refused("ragged")
        return [int.from_bytes(payload[i:i + width], "little", signed=True)
                for i in range(0, len(payload), width)]
    reader = Reader(payload)
    count = reader.varint(32)
    if count > MAX_DELTA_SAMPLES:
        raise Refused("too many samples")
    values = []
    if count:
        width = reader.take(1)[0]
        if width > 32:
            raise Refused("too many bits")
        values.append(reader.read("i32"))
        bits = int.from_bytes(reader.take(((count - 1) * width + 7) // 8), "little")
        for _ in range(count - 1):
            step = bits & (1 << width) - 1
            values.append(signed(values[-1] + (step >> 1 if step % 2 == 0 else -(step >> 1) - 1)))
            bits >>= width
        if bits:
            raise Refused("bits left over")
    if reader.at != len(payload):
        raise Refused("ragged")
    return values


def signed(value):
    """`value` modulo 2^32, from -2^31 to 2^31 - 1."""
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def cobs(raw):
    out = bytearray()
    for group in raw.split(b"\0"):
        while len(group) >= 254:
            out += b"\xff" + group[:254]
            group = group[254:]
        out += bytes([len(group) + 1]) + group
    return bytes(out)


def uncobs(raw):
    out, at = bytearray(), 0
    while at < len(raw):
        code = raw[at]
        if at + code > len(raw):
            raise Refused("no COBS code")
        out += raw[at + 1:at + code]
        at += code
        if code != 0xFF and at < len(raw):
            out.append(0)
    return bytes(out)


def encode(direction, message):
    """`message`: {"type": name, field: value ...} to a frame."""
    names = [name for name, _ in DIRECTIONS[direction]]
    number = names.index(message["type"])
    body = varint(number)
    for field, kind in DIRECTIONS[direction][number][1]:
        body += write(kind, message[field])
    frame = cobs(body + struct.pack("<I", zlib.crc32(body))) + b"\0"
    assert len(frame) <= MAX_FRAME_BYTES
    return frame


def decode(direction, frame):
    """A frame without its zero byte to a message."""
    if len(frame) >= MAX_FRAME_BYTES:
        raise Refused("too long")
    plain = uncobs(frame)
    body, crc = plain[:-4], plain[-4:]
    if len(plain) < 4 or struct.pack("<I", zlib.crc32(body)) != crc:
        raise Refused("CRC")
    reader = Reader(body)
    number = reader.varint(32)
    if number >= len(DIRECTIONS[direction]):
        raise Refused("unknown message")
    name, fields = DIRECTIONS[direction][number]
    message = {"type": name} | {field: reader.read(kind) for field, kind in fields}
    if reader.at != len(body):
        raise Refused("bytes left over")
    return message


def one_bit_flipped(frame):
    for at, byte in enumerate(frame):
        flipped = byte ^ 1 << at % 8
        if flipped:  # a zero byte would cut the frame in two
            yield frame[:at] + bytes([flipped]) + frame[at + 1:]


def is_refused(direction, frame):
    try:
        decode(direction, frame)
    except Refused:
        return True
    return False


def is_ragged(form, payload):
    try:
        unpack(form, payload)
    except Refused:
        return True
    return False


def check(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    seen = set()
    for vector in vectors:
        direction, message, frame = vector["from"], vector["message"], bytes.fromhex(vector["frame"])
        seen.add((direction, message["type"]))
        encoded = encode(direction, message)
        # The one freedom of COBS: 01 after a full part at the very end.
        assert frame == encoded or frame[:-1] + b"\1\0" == encoded, (message, encoded.hex())
        assert frame.endswith(b"\0") and 0 not in frame[:-1], message
        assert decode(direction, frame[:-1]) == message, decode(direction, frame[:-1])
        if "values" in vector:
            form, payload = message["format"], bytes.fromhex(message["payload"])
            assert pack(form, vector["values"]) == payload, pack(form, vector["values"]).hex()
            assert unpack(form, payload) == vector["values"], unpack(form, payload)
        if "refused" in vector:
            assert is_ragged(message["format"], bytes.fromhex(message["payload"])), message
        assert all(is_refused(direction, broken) for broken in one_bit_flipped(frame[:-1])), message
    everything = {(d, name) for d, messages in DIRECTIONS.items() for name, _ in messages}
    assert seen == everything, everything - seen
    print(f"{len(vectors)} vectors agree")


def send(out):
    """Two channels of 64 blocks each, with noise between the frames."""
    def write_frame(**message):
        out.write(encode("device", message))

    out.write(b"\x55boot noise\0")
    write_frame(type="Hello", protocol=1, schema=SCHEMA, device=0x5F3, session=1 << 63, tick_hz=32768,
                channels=2, model="sender in Python")
    for channel, (label, top) in enumerate([("EEG C4-M1", 8388607), ("SpO2", 1000)]):
        write_frame(type="Channel", channel=channel, label=label, unit="uV" if top > 1000 else "%",
                    samples=256, seconds=1, digital_min=-top - 1, digital_max=top,
                    physical_min=-3276.8, physical_max=3276.7, bits=24)
    for block in range(64):
        for channel, form in enumerate(["I24", "I16"] if block % 2 == 0 else ["Delta", "Delta"]):
            start = 100 * block
            values = [sample_value(channel, start + i) for i in range(100)]
            write_frame(type="Samples", channel=channel, counter=start, tick=128 * start, format=form,
                        payload=pack(form, values).hex())
        if block % 8 == 3:
            out.write(bytes(range(1, 200)) + b"\0\0")
    write_frame(type="Bye", reason="Stopped")


def sample_value(channel, index):
    """What sample `index` of `channel` is: the receiver of the test computes the same."""
    return (index * 40_503) % 16_000_000 - 8_000_000 if channel == 0 else (index * 7) % 2000 - 1000


def receive(source, direction="host"):
    for frame in source.read().split(b"\0"):
        if frame:
            try:
                print(json.dumps(decode(direction, frame)))
            except Refused as reason:
                print(json.dumps({"refused": str(reason)}))


def host(command):
    device = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        messages = converse(device)
    finally:
        device.kill()
    hello = next(m for m in messages if m["type"] == "Hello")
    assert (hello["protocol"], hello["schema"]) == (1, SCHEMA), hello
    channels = {m["channel"]: m for m in messages if m["type"] == "Channel"}
    assert sorted(channels) == list(range(hello["channels"])), channels
    assert any(m["type"] == "TimeReply" and m["request"] == 7 for m in messages), "no time reply"
    assert any(m["type"] == "Status" for m in messages), "no status"
    for index, channel in channels.items():
        blocks = [m for m in messages if m["type"] == "Samples" and m["channel"] == index]
        next_counter = blocks[0]["counter"]
        for block in blocks:
            assert block["counter"] == next_counter, (block, next_counter)
            values = unpack(block["format"], bytes.fromhex(block["payload"]))
            assert all(channel["digital_min"] <= v <= channel["digital_max"] for v in values), block
            next_counter += len(values)
        count = next_counter - blocks[0]["counter"]
        print(f"{channel['label']}: {count} samples, {sorted({b['format'] for b in blocks})}")
        ticks = blocks[-1]["tick"] - blocks[0]["tick"]
        expected = ticks / hello["tick_hz"] * channel["samples"] / channel["seconds"]
        assert abs(blocks[-1]["counter"] - blocks[0]["counter"] - expected) <= 1, (channel, expected)


def converse(device):
    """Starts a device, asks for its time, acknowledges every block: what it sent until two blocks of
    each channel were there."""
    def say(**message):
        device.stdin.write(b"\0" + encode("host", message))
        device.stdin.flush()

    selector = selectors.DefaultSelector()
    selector.register(device.stdout, selectors.EVENT_READ)
    messages, rest, deadline = [], b"", time.monotonic() + 120
    blocks = {}
    say(type="Start")
    say(type="TimeRequest", request=7)
    while not blocks or min(blocks.values()) < 2:
        assert time.monotonic() < deadline, messages
        if not selector.select(0.1):
            continue
        received = os.read(device.stdout.fileno(), 65536)
        assert received, "the device ended"
        *frames, rest = (rest + received).split(b"\0")
        for frame in filter(None, frames):
            message = decode("device", frame)
            messages.append(message)
            if message["type"] == "Channel":
                blocks.setdefault(message["channel"], 0)
            if message["type"] == "Samples":
                blocks[message["channel"]] += 1
                end = message["counter"] + len(unpack(message["format"], bytes.fromhex(message["payload"])))
                say(type="Acknowledge", channel=message["channel"], counter=end)
    say(type="Stop")
    return messages


def main():
    if sys.argv[1:2] == ["check"] and len(sys.argv) == 3:
        check(sys.argv[2])
    elif sys.argv[1:] == ["send"]:
        send(sys.stdout.buffer)
    elif sys.argv[1:] == ["receive"]:
        receive(sys.stdin.buffer)
    elif sys.argv[1:2] == ["host"] and len(sys.argv) > 2:
        host(sys.argv[2:])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
