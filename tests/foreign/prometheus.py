"""Debian's prometheus scrapes a live session, as configs/prometheus says, and gives data for every
expression of the dashboard in configs/grafana; sensors that are killed set off its alerts.

    prometheus.py [folder of sfm-stream and sfm-sim]
"""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from outage import free_port, kill, long_night, need, run_until_the_end, wait_for

DASHBOARD = pathlib.Path("configs/grafana/sfm-stream.json")
SCRAPE = pathlib.Path("configs/prometheus/scrape.yml")
TARGET = "127.0.0.1:9464"


def http(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return ""


class Prometheus:
    """The example's configuration, but for the port of the target and the interval."""

    def __init__(self, folder, target):
        text = SCRAPE.read_text()
        assert TARGET in text and "scrape_interval: 15s" in text
        text = text.replace(TARGET, f"127.0.0.1:{target}").replace("interval: 15s", "interval: 1s")
        (folder / "scrape.yml").write_text(text)
        shutil.copy(SCRAPE.with_name("alerts.yml"), folder)
        self.address = f"127.0.0.1:{free_port()}"
        run_until_the_end(["prometheus", f"--config.file={folder / 'scrape.yml'}",
                           f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={self.address}"])

    def query(self, expression):
        """Its result, or a refusal in words."""
        url = f"http://{self.address}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as refusal:
            if refusal.code == 503:  # It starts.
                return []
            raise AssertionError(f"{expression}: {refusal.read().decode()}") from None
        except OSError:
            return []


def filled(expression):
    return expression.replace("$__rate_interval", "20s").replace("$bed", ".*")


def expressions():
    dashboard = json.loads(DASHBOARD.read_text())
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in panels:
        for target in panel["targets"]:
            # No installation's own identifier: what Grafana calls the variable.
            assert panel["datasource"]["uid"] == target["datasource"]["uid"] == "${datasource}", panel["title"]
            yield panel["title"], filled(target["expr"])
    yield "variable bed", re.search(r"label_values\((.*), bed\)", variables["bed"]["definition"])[1]


def check_legends(judge):
    """A legend names labels that its series have; without one Grafana would show an empty name."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            named = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target["legendFormat"]))
            for series in judge.query(filled(target["expr"])):
                assert named <= set(series["metric"]), (panel["title"], target["legendFormat"], series["metric"])


SILENT = {"SleepNothingArrives", "SleepSensorSilent"}


def firing(judge):
    """The alerts that have gone off."""
    alerts = json.loads(http(f"http://{judge.address}/api/v1/alerts"))["data"]["alerts"]
    return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}


def main():
    need("prometheus")
    folder_of = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "target/release")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        folder = pathlib.Path(folder)
        sensors, metrics = free_port(), free_port()
        run = run_until_the_end(
            [folder_of / "sfm-stream", "--udp", f"127.0.0.1:{sensors}", "--devices", "2", "--speed", "15", "--out",
             folder / "live", "--metrics", f"127.0.0.1:{metrics}", "--backend", "tract"], stderr=subprocess.PIPE, text=True)
        judge = Prometheus(folder, metrics)
        assert wait_for(lambda: "sfm_build_info" in http(f"http://127.0.0.1:{metrics}/metrics")), run.poll()
        # A page whose name was pointed here by its DNS server.
        foreign = urllib.request.Request(f"http://127.0.0.1:{metrics}/healthz", headers={"Host": "evil.example"})
        try:
            raise AssertionError(urllib.request.urlopen(foreign, timeout=5).read())
        except urllib.error.HTTPError as refused:
            assert refused.code == 421, refused
        recording = folder / "sensors.edf"
        long_night(recording, times=10)
        simulator = run_until_the_end([folder_of / "sfm-sim", recording, "--udp", f"127.0.0.1:{sensors}",
                                       "--sensors", "2", "--speed", "15", "--loss", "0.01", "--seed", "3"])
        # Epochs have settled after 20 s.
        wanted = {expression: title for title, expression in expressions()}
        empty = set(wanted)

        def all_there():
            numbers = {e: [s for s in judge.query(e) if s["value"][1] != "NaN"] for e in sorted(empty)}
            empty.difference_update(e for e, series in numbers.items() if series)
            return not empty and judge.query('up{job="sfm-stream"} == 1') and judge.query("sfm_epochs_settled_total >= 10")

        wait_for(all_there, 40)
        assert not empty, [(wanted[expression], expression) for expression in empty]
        known = set(re.findall(r"^# TYPE (\w+)", http(f"http://127.0.0.1:{metrics}/metrics"), re.M))
        used = {name for e in wanted for name in re.findall(r"\b(?:sfm|process)_\w+", e)}
        used = {re.sub(r"_bucket$", "", name) for name in used}
        assert used <= known, used - known
        assert judge.query("sfm_epochs_settled_total >= 10"), run.poll()
        check_legends(judge)
        (ward,) = {series["metric"]["ward"] for series in judge.query("sfm_session_on")}
        rules = json.loads(http(f"http://{judge.address}/api/v1/rules"))["data"]["groups"][0]["rules"]
        assert ward == "sleep-lab" and all(rule["health"] == "ok" for rule in rules), rules
        assert not firing(judge) & SILENT, firing(judge)
        kill(simulator)
        assert wait_for(lambda: SILENT <= firing(judge), 60), firing(judge)
        assert judge.query("sfm_health == 2") and judge.query("sfm_bed_sample_age_seconds > 60")
        unused = known - used
        print(f"{len(wanted)} expressions of the dashboard give data, with {len(used)} of {len(known)} metrics; "
              f"{len(rules)} alert rules evaluate, and killed sensors set off {len(SILENT)}; not shown: {', '.join(sorted(unused)) or 'none'}")


if __name__ == "__main__":
    main()
