#!/usr/bin/env python3
"""Makes a long plain EDF out of a short one by repeating its records.

usage: make_night.py SHORT.edf LONG.edf HOURS

The signal repeats, its length and its arithmetic do not care: for timing, not for staging.
"""

import sys


def main() -> None:
    short, long, hours = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with open(short, "rb") as file:
        content = file.read()
    header_bytes = int(content[184:192])
    records = int(content[236:244])
    record_s = float(content[244:252])
    wanted = round(hours * 3600 / record_s)
    data = content[header_bytes:]
    with open(long, "wb") as file:
        file.write(content[:236] + f"{wanted:<8}".encode() + content[244:header_bytes])
        for _ in range(wanted // records):
            file.write(data)
        file.write(data[: len(data) // records * (wanted % records)])


if __name__ == "__main__":
    main()
