"""The job of configs/kubernetes by the schema of Kubernetes' API (kubernetes-validate, strictly), and its
command run with every index that the job has: each recording is done by one pod, and the table has all.

    kubernetes.py [path of sfm-stream]
"""

import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

try:
    import kubernetes_validate
    import yaml
except ImportError as error:
    print(f"skipped: {error.name} is not installed")
    raise SystemExit(0)

MANIFEST = pathlib.Path("configs/kubernetes/batch.yaml")
# The field backoffLimitPerIndex came with 1.28 and needs no switch since 1.29.
VERSIONS = ["1.29", kubernetes_validate.latest_version()]
RECORDINGS = 6


def check_schema(job):
    for version in VERSIONS:
        kubernetes_validate.validate(job, version, strict=True)
        for part, value in (("completions", "eight"), ("nonsense", 1)):
            broken = job | {"spec": job["spec"] | {part: value}}
            try:
                kubernetes_validate.validate(broken, version, strict=True)
            except kubernetes_validate.ValidationError:
                continue
            raise AssertionError(f"{version} takes {part}: {value}")


def container(job):
    """The pod's one container. Its mounts are the pod's volumes, each as writable as the pod says."""
    spec = job["spec"]["template"]["spec"]
    (found,) = spec["containers"]
    volumes = {volume["name"]: volume["persistentVolumeClaim"].get("readOnly", False) for volume in spec["volumes"]}
    mounts = {mount["name"]: mount.get("readOnly", False) for mount in found["volumeMounts"]}
    assert mounts == volumes, (mounts, volumes)
    return found


def pods(job, program, folder):
    """The command of each index, one after the other, in folders instead of volumes."""
    shell, option, line = container(job)["command"]
    count = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed" and f'/{count}"' in line, line
    for mount in container(job)["volumeMounts"]:
        path = mount["mountPath"]
        assert re.search(rf" {path} ", line), (path, line)
        line = line.replace(f" {path} ", f" {folder}{path} ")
    (folder / "bin").mkdir()
    (folder / "bin" / "sfm-stream").symlink_to(program)
    for index in range(count):
        environment = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index)}
        done = subprocess.run([shell, option, line], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (index, done.stderr)
        yield index, set(re.findall(r"^\[\d+/\d+\] (\S+):", done.stderr, re.M))


def main():
    program = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release/sfm-stream").resolve()
    (job,) = yaml.safe_load_all(MANIFEST.read_text())
    check_schema(job)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "archive").mkdir()
        names = [f"night-{number}" for number in range(RECORDINGS)]
        for name in names:
            shutil.copy("tests/data/mini/psg.edf", folder / "archive" / f"{name}.edf")
        done = dict(pods(job, program, folder))
        assert sorted(name for part in done.values() for name in part) == names, done
        with open(folder / "results" / "cohort.csv", newline="") as file:
            rows = [(row["recording"], row["status"]) for row in csv.DictReader(file)]
        assert rows == [(name, "done") for name in names], rows
    spread = [len(part) for part in done.values()]
    print(f"the schemas of {' and '.join(VERSIONS)} take it; {len(spread)} pods did {spread} of {RECORDINGS} recordings")


if __name__ == "__main__":
    main()
