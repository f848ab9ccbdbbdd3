"""Opens what `sfm-stream batch` wrote: cohort.parquet with pyarrow (the Parquet library in C++) against
cohort.csv value by value, night.json of every night against its row, failures.csv.

    batch.py OUT
"""

import csv
import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FAILURES = []
TEXT = {"recording", "status", "reason", "folder", "bundle", "bundle_sha256", "pass", "sex",
        "modalities_absent"}
COUNTS = {"awakenings", "stage_changes", "gaps"}
FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")


def check(what, ok):
    print(("ok    " if ok else "FAIL  ") + what)
    if not ok:
        FAILURES.append(what)


def wanted_type(name):
    if name in TEXT:
        return pa.string()
    if name in COUNTS:
        return pa.int64()
    return pa.float32() if name.startswith(("e_", "hazard_")) else pa.float64()


def unguarded(field):
    """The text behind an apostrophe that keeps spreadsheets from taking it for a formula."""
    return field[1:] if field.startswith("'") and field[1:].startswith(FORMULA) else field


def same(name, field, value):
    if field == "" or value is None:
        return field == "" and value in (None, "")
    if name in TEXT:
        return unguarded(field) == value and not field.startswith(FORMULA)
    if name in COUNTS:
        return int(field) == value
    kind = np.float32 if name.startswith(("e_", "hazard_")) else np.float64
    return kind(field) == kind(value)


def check_night(out, row):
    night = json.loads((out / row["folder"] / "night.json").read_text())
    statistics, risk = night["statistics"], night["risk"]
    stages = statistics["stage_min"]
    pairs = [
        (row["tst_min"], statistics["tst_min"]), (row["waso_min"], statistics["waso_min"]),
        (row["sol_min"], statistics["sol_min"]), (row["n2_min"], stages["N2"]),
        (row["r_min"], stages["R"]), (row["awakenings"], statistics["awakenings"]),
        (row["duration_s"], night["provenance"]["duration_s"]),
        (row["bundle_sha256"], night["provenance"]["bundle_sha256"]),
    ]
    embedding = [value for name, value in row.items() if name.startswith("e_")]
    hazards = [value for name, value in row.items() if name.startswith("hazard_")]
    allowed = statistics["tst_min"] >= 240 and len(night["provenance"]["modalities_absent"]) < 2
    expected = risk["log_hazards"] if risk and allowed else []
    check(f"{row['recording']}: the row is night.json's", all(a == b for a, b in pairs)
          and np.array_equal(np.float32(embedding), np.float32(risk["embedding"]))
          and ([np.float32(h) for h in hazards if h is not None] == [np.float32(h) for h in expected]))


def main(arguments):
    if len(arguments) != 1:
        print(__doc__)
        return 2
    out = pathlib.Path(arguments[0])
    table = pq.read_table(out / "cohort.parquet")
    with open(out / "cohort.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    check("the same columns", [unguarded(name) for name in header] == table.column_names)
    check("no column twice", len(set(header)) == len(header))
    types = {field.name: field.type for field in table.schema}
    check("typed as documented", all(types[n] == wanted_type(n) for n in types))
    check(f"the same {len(rows)} rows", len(rows) == table.num_rows)
    values = table.to_pylist()
    odd = [(row["recording"], name) for fields, row in zip(rows, values)
           for name, field in zip(table.column_names, fields) if not same(name, field, row[name])]
    check(f"the same values, {odd[:3]}", not odd)
    names = [row["recording"] for row in values]
    check("in the order of the names", names == sorted(names, key=lambda n: n.encode()))
    for row in values:
        if row["status"] == "done":
            check_night(out, row)
    with open(out / "failures.csv", newline="", encoding="utf-8") as file:
        failures = [unguarded(row["recording"]) for row in csv.DictReader(file)]
    failed = [row["recording"] for row in values if row["status"] == "failed"]
    check(f"{len(failed)} failures in both", failures == failed)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
