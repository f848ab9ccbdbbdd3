"""Reads report.html with software that is not ours.

    report.py OUT...    each report.html is well-formed HTML to html5lib, names nothing outside of
                        itself, and its statistics are YASA's for hypnogram.csv, to the minute; a
                        report.pdf beside it has every text of it, and is tagged, to pypdf

Needs html5lib, pypdf, yasa; one that is not installed is reported as skipped. How YASA's ten hypnograms
come out is a test of the report itself (tests/data/yasa.json).
"""

import csv
import math
import pathlib
import re
import sys
import warnings

from checks import FAILURES, check, installed

TO_YASA = {"W": "WAKE", "N1": "N1", "N2": "N2", "N3": "N3", "R": "REM", "?": "UNS"}
REFERENCES = {"src", "href", "action", "data", "poster", "srcset", "{http://www.w3.org/1999/xlink}href"}
HALF_A_DIGIT = 0.051


def number(text):
    """A cell's number; NaN for a dash."""
    found = re.match(r"-?[0-9.]+", text or "")
    return float(found.group()) if found else math.nan


def check_document(out, document):
    elements = [e for e in document.iter() if isinstance(e.tag, str)]
    outside = [
        f"{e.tag} {name}" for e in elements for name, value in e.attrib.items()
        if name in REFERENCES and not value.startswith(("data:", "#"))
    ]
    check(f"{out}: names nothing outside of itself {outside or ''}", not outside)
    names = {e.tag.rpartition("}")[2] for e in elements}
    check(f"{out}: no script, frame or linked file", not names & {"script", "iframe", "link", "object", "embed"})
    pictures = [e for e in elements if e.tag.endswith("}svg")]
    told = [e for e in pictures if e.get("role") == "img" and e.get("aria-labelledby")]
    check(f"{out}: {len(pictures)} pictures have a text in their place", len(told) == len(pictures))
    ids = [e.get("id") for e in elements if e.get("id")]
    check(f"{out}: every id is there once", len(ids) == len(set(ids)))


def check_statistics(out, document):
    yasa = installed("yasa")
    if yasa is None:
        return
    with open(out / "hypnogram.csv", newline="") as file:
        stages = [TO_YASA[row["stage"]] for row in csv.DictReader(file)]
    # From lights off to lights on, where the recording says so.
    counted = next(e for e in document.iter() if e.get("aria-labelledby") == "statistics")
    stages = stages[int(counted.get("data-first", 0)) : int(counted.get("data-end", len(stages)))]
    if not stages:
        return
    want = yasa.Hypnogram(stages, n_stages=5, freq="30s").sleep_statistics()
    wrong, cells = [], 0
    for cell in document.iter():
        stage, key = cell.attrib.get("data-stage"), cell.attrib.get("data-yasa")
        key = key or (TO_YASA[stage] if stage else None)
        if not key:
            continue
        cells += 1
        ours, theirs = number("".join(cell.itertext())), float(want.get(key, 0.0 if key == "UNS" else math.nan))
        if not (math.isnan(ours) and math.isnan(theirs)) and not abs(ours - theirs) < HALF_A_DIGIT:
            wrong.append((key, ours, theirs))
    check(f"{out}: {cells} statistics as YASA's {wrong or ''}", cells > 10 and not wrong)


def structure(node):
    """Every element of a PDF's structure tree."""
    node = node.get_object()
    if isinstance(node, list):
        for child in node:
            yield from structure(child)
    elif isinstance(node, dict):
        if "/S" in node:
            yield node
        if "/K" in node:
            yield from structure(node["/K"])


def words_of(text):
    return "".join(text.split())


def check_pdf(out, document):
    pypdf = installed("pypdf")
    if pypdf is None or not (out / "report.pdf").exists():
        return
    pdf = pypdf.PdfReader(out / "report.pdf")
    said = words_of("".join(page.extract_text() for page in pdf.pages))
    elements = [e for e in document.iter() if isinstance(e.tag, str)]
    tag = lambda element: element.tag.rpartition("}")[2]
    texts = ["".join(e.itertext()) for e in elements if tag(e) in {"h1", "h2", "h3", "p", "th", "td", "dt", "dd", "li"}]
    # A paragraph may go on behind a page's end.
    lacks = [t for t in texts if words_of(t) not in said and not all(w in said for w in t.split())]
    check(f"{out}: the PDF of {len(pdf.pages)} pages has the page's {len(texts)} texts {lacks or ''}", not lacks)
    root = pdf.trailer["/Root"]
    kinds = [element["/S"] for element in structure(root["/StructTreeRoot"])]
    pictures = [e for e in structure(root["/StructTreeRoot"]) if e["/S"] == "/Figure" and e.get("/Alt")]
    headers = [e for e in elements if tag(e) == "th"]
    check(f"{out}: its {len(headers)} headers of rows and columns are headers", kinds.count("/TH") == len(headers))
    check(
        f"{out}: it is tagged, in {root['/Lang']}, with headings, tables and {len(pictures)} described pictures",
        root["/MarkInfo"]["/Marked"] and {"/H1", "/H2", "/Table", "/TH"} <= set(kinds)
        and len(pictures) == sum(tag(e) == "svg" for e in elements),
    )
    title = "".join(next(e for e in elements if tag(e) == "title").itertext())
    check(f"{out}: its title is the page's", pdf.metadata.title == title)


def check_out(out):
    html5lib = installed("html5lib")
    if html5lib is None:
        return
    parser = html5lib.HTMLParser(strict=True)
    try:
        document = parser.parse((out / "report.html").read_text(encoding="utf-8"))
    except html5lib.html5parser.ParseError as error:
        check(f"{out}: well-formed HTML ({error})", False)
        return
    check(f"{out}: well-formed HTML", True)
    check_document(out, document)
    check_statistics(out, document)
    check_pdf(out, document)


def main(arguments):
    warnings.simplefilter("ignore")
    if not arguments:
        print(__doc__)
        return 2
    for out in arguments:
        check_out(pathlib.Path(out))
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
