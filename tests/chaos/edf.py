"""A recording whose every sample says which one it is, and what a live session made of it.

The simulated sensors play a file in which sample k of a channel has the value k - 32,500. So each value
in a session's recording names the sample that it was, and the time at which it was taken. Written from
the EDF+ specification alone: standard library only.
"""

import array
import dataclasses
import struct
import sys

# Value of sample 0; the digital minimum stands for missing samples and is no sample's value.
FIRST = -32_500
MAX_SAMPLES = 65_000


def value_of(index):
    return FIRST + index % MAX_SAMPLES


def index_of(value):
    return value - FIRST


def field(text, width):
    return str(text)[:width].ljust(width).encode("ascii")


def write_counting(path, channels, seconds):
    """A plain EDF file of 1-s records; `channels` are pairs of label and rate in whole hertz."""
    header = field("0", 8) + field("X X X X", 80) + field("Startdate X X X X", 80)
    header += field("01.01.26", 8) + field("22.00.00", 8) + field(256 * (1 + len(channels)), 8) + field("", 44)
    header += field(seconds, 8) + field(1, 8) + field(len(channels), 4)
    columns = [(label, "", "uV", "-3276.8", "3276.7", "-32768", "32767", "", rate, "") for label, rate in channels]
    for width, column in zip((16, 80, 8, 8, 8, 8, 8, 80, 8, 32), zip(*columns)):
        header += b"".join(field(text, width) for text in column)
    with open(path, "wb") as file:
        file.write(header)
        for second in range(seconds):
            for _, rate in channels:
                values = [value_of(k) for k in range(second * rate, (second + 1) * rate)]
                file.write(struct.pack(f"<{rate}h", *values))


@dataclasses.dataclass
class Channel:
    """One channel of a session's recording: what is in its places on the session's time."""

    label: str
    rate_hz: float
    # Place and index of every sample that is there, in order of places.
    samples: list
    # Places that are declared as missing, and those of the records that there are.
    missing: int = 0
    places: int = 0


class Broken(ValueError):
    """A file that is no recording of a session."""


def annotations(raw):
    """Onset, duration and text of a record's annotations; the first, without a text, is the record's time."""
    for tal in raw.split(b"\0"):
        parts = tal.split(b"\x14")
        if len(parts) < 2:
            continue
        onset, _, duration = parts[0].partition(b"\x15")
        for text in parts[1:-1]:
            yield float(onset), float(duration or 0), text.decode("utf-8", "replace")


def read_session(path):
    """The channels of `recording.edf`, whether or not it was closed."""
    with open(path, "rb") as file:
        raw = file.read()
    if len(raw) < 256:
        raise Broken(f"{path}: {len(raw)} bytes")
    count = int(raw[252:256])
    at, columns = 256, []
    for width in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32):
        columns.append([raw[at + i * width:at + (i + 1) * width].decode("ascii").strip() for i in range(count)])
        at += count * width
    labels, sizes = columns[0], [int(text) for text in columns[8]]
    record_s, record_bytes = float(raw[244:252]), 2 * sum(sizes)
    records = (len(raw) - at) // record_bytes
    channels = {label: Channel(label, size / record_s, []) for label, size in zip(labels, sizes)
                if label != "EDF Annotations"}
    first_s = None
    for number in range(records):
        record = raw[at + number * record_bytes:at + (number + 1) * record_bytes]
        first_s = take_record(record, labels, sizes, channels, record_s, first_s, path)
    return list(channels.values())


def take_record(record, labels, sizes, channels, record_s, first_s, path):
    """Adds a record's samples; the onset of the first record."""
    values, notes, at = {}, [], 0
    for label, size in zip(labels, sizes):
        piece = record[at:at + 2 * size]
        at += 2 * size
        if label == "EDF Annotations":
            notes += annotations(piece)
        else:
            values[label] = array.array("h", piece)
            if sys.byteorder == "big":
                values[label].byteswap()
    if not notes or notes[0][2]:
        raise Broken(f"{path}: a record without a time")
    onset_s = notes[0][0]
    first_s = onset_s if first_s is None else first_s
    for label, channel in channels.items():
        begin = round((onset_s - first_s) * channel.rate_hz)
        size = len(values[label])
        gone = set()
        for gap_s, length_s, text in notes[1:]:
            if text in (f"Recording gap@@{label}", f"Recording end@@{label}"):
                gap = round((gap_s - onset_s) * channel.rate_hz)
                gone.update(range(gap, gap + round(length_s * channel.rate_hz)))
        channel.places += size
        channel.missing += len(gone)
        channel.samples += [(begin + i, index_of(v)) for i, v in enumerate(values[label]) if i not in gone]
    return first_s
