"""Reads the files of --format and --annotated-edf with the programs they are for.

    formats.py SFM_STREAM OUT...    every file of the folders, written with all formats: stages as in
                                    hypnogram.csv through Luna, YASA, U-Sleep's psg-utils, MNE-BIDS,
                                    MNE, pyedflib and edfio; EDFbrowser's rules; embeddings as in
                                    embeddings.h5; FHIR's schema. `SFM_STREAM score` of each file, and
                                    of random hypnograms beside scikit-learn

A package that is not installed is reported as skipped.
"""

import csv
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

from checks import FAILURES, check, installed

import numpy as np

STAGES = ["W", "N1", "N2", "N3", "R"]
NAMES = ["BAS", "RESP", "EKG", "EMG"]
TO_YASA = {"W": "WAKE", "N1": "N1", "N2": "N2", "N3": "N3", "R": "REM", "?": "UNS"}


def hypnogram(out):
    with open(out / "hypnogram.csv", newline="") as file:
        return [row["stage"] for row in csv.DictReader(file)]


# Stages

def check_luna(out, want):
    """Luna needs a recording: one signal as long as the night."""
    lunapi, edfio = installed("lunapi"), installed("edfio")
    if lunapi is None or edfio is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        recording = str(pathlib.Path(folder) / "night.edf")
        values = np.sin(np.arange(30 * 8 * len(want)))
        edfio.Edf([edfio.EdfSignal(values, 8, label="EEG")]).write(recording)
        project = lunapi.proj()
        project.silence(True)
        for name in ["hypnogram.annot", "hypnogram.nsrr.xml", "hypnogram.profusion.xml"]:
            night = project.inst(name)
            night.attach_edf(recording)
            night.attach_annot(str(out / name))
            found = night.stages()
            # An epoch without a stage is no stage to Luna, by whatever name.
            got = [stage if stage in STAGES else "?" for stage in found["STAGE"]]
            check(f"Luna: {name}", got == want)


def check_yasa(out, want):
    yasa = installed("yasa")
    if yasa is None:
        return
    import pandas as pd

    names = [TO_YASA[stage] for stage in want]
    stages = pd.read_csv(out / "hypnogram.yasa.csv")["Stage"].tolist()
    check("YASA: hypnogram.yasa.csv", yasa.Hypnogram(stages).hypno.tolist() == names)
    # YASA takes Profusion's 9, unscored, for a wake that is called active.
    found = yasa.Hypnogram.from_profusion(out / "hypnogram.profusion.xml").hypno.tolist()
    check("YASA: hypnogram.profusion.xml", found == ["WAKE" if n == "UNS" else n for n in names])


def check_usleep(out, want):
    """Its reader has no name for a tab-separated table, which its writer makes: the rows are those of
    its writer's function, and the table without tabs and heading is a file of its reader."""
    numbers = np.load(out / "hypnogram.usleep.npy")
    check("U-Sleep: hypnogram.usleep.npy is [epochs, 1] of its classes",
          numbers.shape == (len(want), 1) and numbers.dtype == np.int64
          and [(STAGES + ["?"])[n] for n in numbers[:, 0]] == want)
    if installed("psg_utils") is None:
        return
    import pandas as pd
    from psg_utils import Defaults
    from psg_utils.hypnogram.utils import dense_to_sparse
    from psg_utils.io.high_level_file_loaders import load_hypnogram

    names = {number: name for name, number in Defaults.get_stage_string_to_class_int().items()}
    theirs = [{"R": "REM", "?": "UNKNOWN"}.get(stage, stage) for stage in want]
    table = pd.read_csv(out / "hypnogram.usleep.tsv", sep="\t")
    rows = [column.tolist() for column in dense_to_sparse(np.array(theirs), 30)]
    check("U-Sleep: hypnogram.usleep.tsv has the rows of its writer",
          [table[name].tolist() for name in ["init_sec", "duration_sec", "stage"]] == rows)
    with tempfile.TemporaryDirectory() as folder:
        # The reader goes by what follows the first dot of the name.
        night = {ending: pathlib.Path(folder) / f"night.{ending}" for ending in ["npy", "ids", "xml"]}
        night["npy"].write_bytes((out / "hypnogram.usleep.npy").read_bytes())
        night["xml"].write_bytes((out / "hypnogram.nsrr.xml").read_bytes())
        table.to_csv(night["ids"], header=False, index=False)
        for ending, path in night.items():
            stages = {n: n for n in names} if ending == "npy" else {name: n for n, name in names.items()}
            found, _ = load_hypnogram(str(path), 30, stages, 128)
            dense = found.to_dense()
            check(f"U-Sleep: its reader's stages of night.{ending}",
                  [names[n] for n in dense["sleep_stage"]] == theirs
                  and dense["period_init_time"].tolist() == [30.0 * i for i in range(len(want))])


def check_bids(out, want):
    mne_bids, mne = installed("mne_bids"), installed("mne")
    if mne_bids is None or not (out / "annotated.edf").exists():
        return
    with tempfile.TemporaryDirectory() as folder:
        raw = mne.io.read_raw_edf(out / "annotated.edf")
        path = mne_bids.BIDSPath(root=folder, subject="01", task="sleep", datatype="eeg")
        mne_bids.write_raw_bids(raw, path, verbose="error")
        for name in ["tsv", "json"]:
            place = path.copy().update(suffix="events", extension=f".{name}").fpath
            place.write_bytes((out / f"events.{name}").read_bytes())
        found = mne_bids.read_raw_bids(path, verbose="error").annotations
        got = [(float(a["onset"]), float(a["duration"]), str(a["description"])) for a in found]
        # MNE cuts an annotation that reaches behind the last sample, and omits one behind it.
        last = raw.times[-1]
        names = [(30.0 * i, f"Sleep stage {s}") for i, s in enumerate(want) if 30 * i <= last]
        check("MNE-BIDS: events.tsv", [(onset, text) for onset, _, text in got] == names)
        check("MNE-BIDS: epochs of 30 s", all(d == 30.0 for _, d, _ in got[:-1]))


# The annotated copy

def check_annotated(out, want):
    path = next((out / n for n in ["annotated.edf", "annotated.bdf"] if (out / n).exists()), None)
    if path is None:
        return
    names = [(30.0 * i, f"Sleep stage {stage}") for i, stage in enumerate(want)]
    stage = lambda text: str(text).startswith("Sleep stage")
    if (mne := installed("mne")) is not None:
        found = mne.read_annotations(str(path))
        got = [(float(a["onset"]), str(a["description"])) for a in found if stage(a["description"])]
        check(f"MNE: stages of {path.name}", got == names)
    if (pyedflib := installed("pyedflib")) is not None:
        with pyedflib.EdfReader(str(path)) as reader:
            found = list(zip(*reader.readAnnotations()))
            check(f"pyedflib: stages of {path.name}",
                  [(float(o), str(t)) for o, _, t in found if stage(t)] == names)
            who = [reader.getPatientName(), reader.getPatientCode(), reader.getBirthdate(),
                   reader.getAdmincode(), reader.getTechnician(), reader.getPatientAdditional()]
            check("pyedflib: nobody is named", all(field.strip("X ") == "" for field in who))
    if path.suffix == ".edf" and (edfio := installed("edfio")) is not None:
        found = edfio.read_edf(path)
        check(f"edfio: stages of {path.name}",
              [(float(a.onset), a.text) for a in found.annotations if stage(a.text)] == names)
    broken = edfbrowser(path.read_bytes())
    check(f"EDFbrowser's rules: {path.name} {broken}", not broken)


def edfbrowser(data):
    """What EDFbrowser 2.x asks of EDF+ (check_edf_file.cpp, edf_annotations.cpp), in the order in
    which it asks: the first rule that is broken, or an empty text."""
    text = lambda begin, width: data[begin:begin + width].decode("latin-1")
    bdf, count = data[0] == 0xFF, int(text(252, 4))
    size = 3 if bdf else 2
    header = data[1 if bdf else 0:256 * (count + 1)]
    if any(not 32 <= byte <= 126 for byte in header):
        return "a header field is no 7-bit ASCII"
    if int(text(184, 8)) != 256 * (count + 1):
        return "header length"
    if text(192, 5) not in ("EDF+C", "EDF+D", "BDF+C", "BDF+D"):
        return "not marked as EDF+"
    if not re.fullmatch(r"\S+ (X|M|F) (X|\d\d-[A-Z]{3}-\d{4}) \S+.*", text(8, 80)):
        return "patient field"
    recording = text(88, 80)
    if not re.fullmatch(r"Startdate (X|\d\d-[A-Z]{3}-\d{4}) \S+ \S+ \S+.*", recording):
        return "recording field"
    date = recording.split(" ")[1]
    if date != "X":
        months = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
        day, month, year = date.split("-")
        if text(168, 8) != f"{day}.{months.index(month) + 1:02}.{year[2:]}":
            return "both start dates differ"
    records, duration = int(text(236, 8)), float(text(244, 8))
    column, place = {}, 256
    for name, width in [("label", 16), ("transducer", 80), ("unit", 8), ("pmin", 8), ("pmax", 8),
                        ("dmin", 8), ("dmax", 8), ("filter", 80), ("samples", 8), ("reserved", 32)]:
        column[name] = [text(place + i * width, width) for i in range(count)]
        place += count * width
    limit = 8388608 if bdf else 32768
    notes = [i for i in range(count) if column["label"][i] == ("BDF" if bdf else "EDF") + " Annotations "]
    if not notes:
        return "no annotation signal"
    for i in range(count):
        low, high = int(column["dmin"][i]), int(column["dmax"][i])
        if float(column["pmin"][i]) == float(column["pmax"][i]) or low >= high:
            return f"limits of signal {i}"
        if not -limit <= low < high < limit:
            return f"digital limits of signal {i}"
        if i in notes:
            if (low, high) != (-limit, limit - 1):
                return "digital limits of the annotation signal"
            if (column["transducer"][i] + column["filter"][i] + column["reserved"][i]).strip():
                return "transducer or filter of the annotation signal"
    samples = [int(s) for s in column["samples"]]
    record_size = sum(samples) * size
    if min(samples) < 1 or record_size > 10 << 20:
        return "samples in a record"
    if len(data) != 256 * (count + 1) + records * record_size:
        return "file size"
    elapsed = None
    for record in range(records):
        begin = 256 * (count + 1) + record * record_size
        for rank, i in enumerate(notes):
            at = begin + sum(samples[:i]) * size
            broken, elapsed = edfbrowser_record(
                data[at:at + samples[i] * size], rank, elapsed, duration, text(196, 1) == "D")
            if broken:
                return f"record {record}: {broken}"
    return ""


def edfbrowser_record(block, rank, elapsed, duration, discontinuous):
    """One annotation signal of one record; the first one of a file keeps the time."""
    ticks = lambda seconds: round(float(seconds) * 1e7)
    if block[-1] != 0:
        return "the last byte is not 0 (5)", elapsed
    if rank == 0:
        onset, _, rest = block.partition(b"\x14")
        if not rest.startswith(b"\x14"):
            return "no time-keeping annotation (6)", elapsed
        if not re.fullmatch(rb"[+-]\d+(\.\d+)?", onset):
            return "onset of the record (36)", elapsed
        now = ticks(onset)
        if elapsed is None:
            if now >= 10_000_000:
                return "the first record begins after a second (2)", elapsed
        elif discontinuous:
            if now - elapsed < ticks(duration):
                return "records overlap (4)", elapsed
        elif now - elapsed != ticks(duration):
            return "records do not follow each other (3)", elapsed
        elapsed = now
    lists, rest = block.rstrip(b"\0"), block[len(block.rstrip(b"\0")):]
    if lists and not rest:
        return "a list is not closed", elapsed
    for tal in lists.split(b"\0") if lists else []:
        if not tal.endswith(b"\x14"):
            return "a list does not end with 0x14 (33, 34)", elapsed
        time, *texts = tal[:-1].split(b"\x14")
        onset, *durations = time.split(b"\x15")
        if not re.fullmatch(rb"[+-]\d+(\.\d+)?", onset):
            return "onset (36)", elapsed
        if len(durations) > 1 or any(b"\x15" in t for t in texts):
            return "more than one duration (35)", elapsed
        if durations and not re.fullmatch(rb"\d+(\.\d+)?", durations[0]):
            return "duration (37)", elapsed
        if any(byte < 32 and byte not in b"\t\n\r" or byte == 127 for t in texts for byte in t):
            return "characters that cannot be printed (38)", elapsed
    return "", elapsed


# Embeddings and FHIR

def check_embeddings(out):
    h5py, parquet = installed("h5py"), installed("pyarrow.parquet")
    if h5py is None:
        return
    with h5py.File(out / "embeddings.h5", "r") as file:
        tokens = {n: file[n][:] for n in NAMES if n in file}
        windows = {n: file["5min"][n][:] for n in NAMES if n in file["5min"]}
    for scale, want in [("", tokens), (".5min", windows)]:
        got = {n: np.load(path) for n in NAMES
               if (path := out / f"embeddings{scale}.{n}.npy").exists()}
        same = got.keys() == want.keys() and all(
            got[n].dtype == np.float32 and np.array_equal(got[n], want[n], equal_nan=True) for n in got)
        check(f"NumPy: embeddings{scale}.*.npy are embeddings.h5", same)
        if parquet is None:
            continue
        table = parquet.read_table(out / f"embeddings{scale}.parquet").to_pydict()
        index = table["window" if scale else "patch"]
        step = 300.0 if scale else 5.0
        check(f"Parquet: rows of embeddings{scale}.parquet in order",
              index == list(range(len(index))) and table["onset_s"] == [step * i for i in index])
        for name in NAMES:
            rows = want.get(name)
            same = all(row is None for row in table[name]) if rows is None else (
                len(rows) == len(index) and all(
                    np.isnan(row).all() if found is None
                    else np.array_equal(np.float32(found), row)
                    for found, row in zip(table[name], rows)))
            check(f"Parquet: {name} of embeddings{scale}.parquet", same)


def check_fhir(out):
    text = (out / "fhir.json").read_text()
    content = json.loads(text)
    night = json.loads((out / "night.json").read_text())
    kinds = [entry["resource"]["resourceType"] for entry in content["entry"]]
    absent = len(night["provenance"]["modalities_absent"])
    shown = night["statistics"]["tst_min"] >= 240 and absent < 2 and (night["risk"] or {}).get("log_hazards")
    want = ["Device", "Observation"] + (["RiskAssessment"] if shown else [])
    check(f"FHIR: {', '.join(kinds)}", kinds == want)
    check("FHIR: no probability and no patient",
          '"probability' not in text and '"Patient"' not in text)
    minutes = {c["code"]["text"]: c.get("valueQuantity", {}).get("value")
               for c in content["entry"][1]["resource"]["component"]}
    check("FHIR: sleep duration is night.json's",
          minutes["Sleep duration"] == night["statistics"]["tst_min"])
    if installed("fhir.resources") is not None:
        from fhir.resources.R4B.bundle import Bundle

        bundle = Bundle.model_validate_json(text)
        names = {entry.fullUrl for entry in bundle.entry}
        used = set(re.findall(r'"reference": "([^"]+)"', text))
        check("FHIR: the bundle fits the schema, references lead to entries", used <= names)


# score

def score(program, reference, out):
    run = subprocess.run([program, "score", "--json", "--reference", reference, out],
                         capture_output=True, text=True)
    return json.loads(run.stdout) if run.returncode == 0 else {"failed": run.stderr}


def check_scores(program, out, want):
    files = ["hypnogram.csv", "hypnogram.edf", "annotated.edf", "annotated.bdf", "hypnogram.annot",
             "hypnogram.nsrr.xml", "hypnogram.profusion.xml", "hypnogram.usleep.tsv",
             "hypnogram.usleep.npy", "hypnogram.yasa.csv", "events.tsv"]
    several = len(set(want) - {"?"}) > 1
    for name in files:
        if (out / name).exists():
            found = score(program, out / name, out)
            # Of a night with one stage kappa is not defined.
            fits = found.get("accuracy") == 1.0 and found.get("kappa") == (1.0 if several else None)
            check(f"score: {name} agrees with itself {found.get('failed', '')}", fits)
    check("score: the timeline is XML", (out / "score.svg").read_text().startswith("<svg"))


def check_random(program):
    metrics = installed("sklearn.metrics")
    if metrics is None:
        return
    rng = np.random.default_rng(20260201)
    worst, failed = 0.0, []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for night in range(10):
            epochs = int(rng.integers(50, 1200))
            present = STAGES[:int(rng.integers(2, 6))]
            truth = rng.choice(present, epochs)
            ours = np.where(rng.random(epochs) < 0.7, truth, rng.choice(STAGES, epochs))
            truth, ours = (np.where(rng.random(epochs) < 0.05, "?", s) for s in (truth, ours))
            rows = [f"{i},{30 * i},{s},0,0,0,0,0,1,final" for i, s in enumerate(ours)]
            head = "epoch,onset_s,stage,p_wake,p_n1,p_n2,p_n3,p_rem,quality,status"
            (folder / "hypnogram.csv").write_text("\n".join([head, *rows, ""]))
            names = [TO_YASA[s] for s in truth]
            (folder / "reference.csv").write_text("\n".join(["Stage", *names, ""]))
            found = score(program, folder / "reference.csv", folder)
            if "failed" in found:
                failed.append(found["failed"])
                continue
            both = (truth != "?") & (ours != "?")
            want = {
                "accuracy": metrics.accuracy_score(truth[both], ours[both]),
                "kappa": metrics.cohen_kappa_score(truth[both], ours[both]),
                "macro_f1": metrics.f1_score(truth[both], ours[both], average="macro", zero_division=0),
            }
            worst = max(worst, *(abs(found[k] - v) for k, v in want.items()))
            matrix = metrics.confusion_matrix(truth[both], ours[both], labels=STAGES)
            if found["confusion"] != matrix.tolist():
                failed.append(f"confusion matrix of night {night}")
    check(f"score: ten random nights as scikit-learn, within {worst:.1e} {failed or ''}",
          worst <= 1e-9 and not failed)


def main(arguments):
    warnings.simplefilter("ignore")
    if len(arguments) < 2:
        print(__doc__)
        return 2
    program, *outs = arguments
    for out in map(pathlib.Path, outs):
        print(out)
        want = hypnogram(out)
        for proof in [check_luna, check_yasa, check_usleep, check_bids, check_annotated]:
            proof(out, want)
        check_embeddings(out)
        check_fhir(out)
        check_scores(program, out, want)
    check_random(program)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
