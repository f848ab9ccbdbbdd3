"""The live page in a browser that is not ours: Chromium, by Playwright, with axe-core and an OpenAPI validator.

    web_page.py [path of sfm-stream] [--speed N] [--hours H] [--report report.html]

A night of 12 h at 500 times real time runs in one tab, whose memory is measured, while other tabs see stages arrive,
reload, lose their server and find the next one, are walked through with the keyboard and judged by axe-core, as is a
report. Needs a Chromium of the system (SFM_CHROMIUM says where it is).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import numpy

try:
    import jsonschema
    import openapi_spec_validator
    import pyedflib
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect, sync_playwright
except ImportError as missing:
    print(f"skipped: {missing.name} is not installed")
    raise SystemExit(0)

ROOT = pathlib.Path(__file__).resolve().parents[2]
MINI = ROOT / "tests/data/mini/psg.edf"
HEAP_MB = 200
CHROMIUM = os.environ.get("SFM_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
# What a browser itself says of a server that is gone, which no page can help.
OUTAGE = re.compile(r"net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Program:
    """sfm-stream with a page; of sensors where there is no recording."""

    def __init__(self, binary, folder, recording, port, *args):
        self.url = f"http://127.0.0.1:{port}"
        self.bed = "replay" if recording else "1"
        self.out = folder / f"{port}.out"
        self.log = open(folder / f"{port}.log", "ab")
        command = [binary, "--web", f"127.0.0.1:{port}", "--out", self.out, *(["--replay", recording] if recording else []), *args]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.log)

    def ask(self, path, method="GET", headers=None, body=None):
        """Status, headers and body of an answer."""
        request = urllib.request.Request(self.url + path, body, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.headers, refusal.read().decode()

    def wait_for_bed(self):
        for _ in range(600):
            try:
                if self.ask(f"/api/beds/{self.bed}")[0] in (200, 401):
                    return self
            except OSError:
                pass
            assert self.process.poll() is None, pathlib.Path(self.log.name).read_text()
            time.sleep(0.1)
        raise AssertionError("no page came up")

    def end(self):
        self.process.terminate()
        self.process.wait(60)


def long_night(path, hours):
    """A night of noise with the four modalities."""
    writer = pyedflib.EdfWriter(str(path), 4, pyedflib.FILETYPE_EDF)
    labels = ["C4-M1", "Airflow", "ECG", "Chin EMG"]
    writer.setSignalHeaders([{"label": label, "dimension": "uV", "sample_frequency": 128, "physical_min": -500, "physical_max": 500,
                              "digital_min": -32768, "digital_max": 32767, "transducer": "", "prefilter": ""} for label in labels])
    generator = numpy.random.default_rng(7)
    stretch = generator.normal(0, 30, (4, 128 * 600))
    for block in range(int(hours * 6)):
        # Louder and quieter by turns, so that stages change.
        stretch = numpy.roll(stretch, 12_345, axis=1) * (1.0 + 0.5 * numpy.sin(block))
        stretch = numpy.clip(stretch / stretch.std() * 30, -450, 450)
        for second in range(600):
            for channel in range(4):
                writer.writePhysicalSamples(stretch[channel, second * 128:(second + 1) * 128])
    writer.close()


class Tab:
    """A page, with what it complained of."""

    def __init__(self, browser, url, width=1280, height=800, scheme="light", motion="no-preference"):
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion=motion)
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: request.url.startswith((url.split("#")[0], "data:")) or self.errors.append(f"asks {request.url}"))
        self.page.goto(url)

    def close(self, outage=False):
        errors = [error for error in self.errors if not (outage and OUTAGE.search(error))]
        assert not errors, errors
        self.context.close()


def epochs_shown(page):
    """Epochs by the sentence below the hypnogram, minutes times two."""
    text = page.locator("#hyp-summary").inner_text()
    ends = re.search(r"(\+?)(\d+):(\d\d) to \+?(\d+):(\d\d)", text)
    if not ends:
        return 0
    start, end = (int(ends[i]) * 60 + int(ends[i + 1]) for i in (2, 4))
    return 2 * ((end - start) % 1440)


def until(what, done, seconds=60):
    begun = time.monotonic()
    while not done():
        assert time.monotonic() - begun < seconds, f"waited in vain for {what}"
        time.sleep(0.1)


class Memory:
    """The most that a tab has ever had, MB: JavaScript's heap, and its process."""

    def __init__(self, browser, tab):
        self.devtools = tab.context.new_cdp_session(tab.page)
        self.devtools.send("Performance.enable")
        self.browser = browser.new_browser_cdp_session()
        self.heap = self.process = 0.0

    def look(self):
        figures = {metric["name"]: metric["value"] for metric in self.devtools.send("Performance.getMetrics")["metrics"]}
        self.heap = max(self.heap, figures["JSHeapUsedSize"] / 1e6)
        for process in self.browser.send("SystemInfo.getProcessInfo")["processInfo"]:
            if process["type"] == "renderer":
                rollup = pathlib.Path(f"/proc/{process['id']}/smaps_rollup")
                try:
                    pss = re.search(r"^Pss:\s+(\d+) kB", rollup.read_text(), re.M)
                except OSError:
                    continue
                self.process = max(self.process, int(pss[1]) / 1e3 if pss else 0.0)


def stages_arrive(browser, binary, folder):
    port = free_port()
    program = Program(binary, folder, MINI, port, "--speed", "15").wait_for_bed()
    tab = Tab(browser, program.url + "/")
    page = tab.page
    expect(page).to_have_url(re.compile("#/bed/replay$"))  # one bed: nothing to choose from
    expect(page.locator("#link")).to_have_text("connected")
    until("stages", lambda: epochs_shown(page) >= 4)
    expect(page.locator(".letter")).to_have_text(re.compile("^(W|N1|N2|N3|R)$"))
    expect(page.locator(".now .sure")).to_have_text("provisional")
    assert page.locator(".now.unsure").count() == 1, "a provisional stage looks sure"
    assert page.locator(".hypnogram path[fill^='url(#hatch']").evaluate_all("paths => paths.some(path => path.getAttribute('d'))")
    # Who reads the table is not thrown out of it by the next epoch.
    page.locator("summary", has_text="As a table").click()
    page.locator("details tbody tr").first.wait_for()
    page.evaluate("[...document.querySelectorAll('details tbody tr')].at(-1).isKept = true")
    before = epochs_shown(page)
    until("more stages", lambda: epochs_shown(page) >= before + 2)
    assert page.evaluate("[...document.querySelectorAll('details tbody tr')].some((row) => row.isKept)"), "rows were made anew"
    before = epochs_shown(page)
    page.reload()
    until("the night after a reload", lambda: epochs_shown(page) >= before)
    expect(page.get_by_role("img", name=re.compile("^Signals: .*up to"))).to_be_visible()
    drawn = "c => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0; return n; }"
    until("signals", lambda: page.locator("canvas").evaluate(drawn) > 5000)
    expect(page.get_by_role("button", name="Lights off")).to_be_disabled()
    expect(page.locator("[data-is='marks-note']")).to_contain_text("replay")
    print(f"stages arrive, and {before} epochs are there after a reload")

    assert not tab.errors, tab.errors
    program.process.kill()
    program.process.wait()
    expect(page.locator("#link")).to_have_text(re.compile("no connection"), timeout=10_000)
    expect(page.locator(".banner")).to_be_visible()
    held = epochs_shown(page)
    assert held >= before, "what was shown is gone"
    program = Program(binary, folder, MINI, port, "--speed", "15").wait_for_bed()
    expect(page.locator("#link")).to_have_text("connected", timeout=40_000)
    until("the new run", lambda: 0 < epochs_shown(page) < held or epochs_shown(page) == 12)
    program.process.send_signal(2)
    expect(page.locator("#link")).to_have_text("run over", timeout=30_000)
    expect(page.locator(".banner")).to_contain_text("What is shown stays")
    program.process.wait(60)
    tab.close(outage=True)
    print("the server was killed, came again and ended: the page followed by itself")


def judged(page):
    """axe-core's verdict; it has to see what it is there to see."""
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
    found = Axe().run(page, options=rules)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20, [rule["id"] for rule in found.response["passes"]]


def judged_by_axe(browser, program):
    for scheme in ("light", "dark"):
        for width in (390, 1280):
            for view in ("#/beds", "#/bed/replay"):
                tab = Tab(browser, f"{program.url}/{view}", width, 844, scheme, "reduce")
                tab.page.locator(".letter").first.wait_for()
                until("a stage", lambda: tab.page.locator(".letter").first.inner_text() not in ("–", ""))
                judged(tab.page)
                wide = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{view} is {wide} px too wide at {width}"
                tab.close()
    print("axe-core finds nothing, in light and dark, on a phone and a laptop")


def report_judged(browser, report):
    """The report on a phone, a laptop and A4, light and dark; what is wider than the page scrolls within itself."""
    for scheme in ("light", "dark"):
        for width in (390, 1280):
            tab = Tab(browser, report.resolve().as_uri(), width, 844, scheme, "reduce")
            judged(tab.page)
            wide = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"the report is {wide} px too wide at {width}"
            if width == 1280 and scheme == "light":
                pdf = tab.page.pdf(format="A4", prefer_css_page_size=True)
                assert pdf.startswith(b"%PDF") and 1 <= pdf.count(b"/Type /Page\n") <= 12, pdf.count(b"/Type /Page\n")
            tab.close()
    print("axe-core finds nothing in the report; it prints")


def walked_by_keyboard(browser, program):
    tab = Tab(browser, f"{program.url}/#/bed/replay")
    page = tab.page
    page.locator("summary", has_text="As a table").wait_for()
    until("signals", lambda: page.get_by_role("button", name="Earlier").is_enabled())
    focused = """() => { const e = document.activeElement; const s = getComputedStyle(e); const box = e.getBoundingClientRect();
        return [e.tagName, (e.textContent || e.getAttribute('aria-label') || '').trim().slice(0, 40), s.outlineStyle, parseFloat(s.outlineWidth), box.width * box.height]; }"""
    seen = []
    for _ in range(30):
        page.keyboard.press("Tab")
        element = page.evaluate(focused)
        if element[0] == "BODY" or seen and element[:2] == seen[0][:2]:
            break
        seen.append(element)
    assert seen[0][1] == "Skip to the content", seen
    for tag, name, outline, width, area in seen:
        assert outline == "solid" and width >= 2 and area > 0, f"the focus is not seen on {tag} {name}"
    names = " ".join(element[1] for element in seen)
    for name in ("SleepFM live", "Earlier", "Newest", "As a table"):
        assert name in names, f"{name} is not reached: {names}"
    assert any(tag == "SELECT" for tag, *_ in seen)
    page.get_by_role("button", name="Earlier").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Newest")).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Newest").focus()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Newest")).to_have_attribute("aria-pressed", "true")
    page.locator("summary", has_text="As a table").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("table", name=re.compile("Stretches of one stage"))).to_be_visible()
    page.locator("#skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    # What a screen reader is told.
    tree = page.locator("body").aria_snapshot()
    for part in ('heading "Hypnogram"', 'img "Hypnogram"', 'img "Signals: ', 'table "Probability of each stage', "Research software, not a medical device"):
        assert part in tree, f"{part} is not in\n{tree}"
    assert len(page.get_by_role("status").all()) >= 2
    tab.close()
    print(f"the keyboard reaches {len(seen)} places, each with a visible focus")


def marks_are_annotations(browser, binary, folder):
    """A live session of simulated sensors; its buttons by keyboard."""
    links = f"127.0.0.1:{free_port()}"
    program = Program(binary, folder, None, free_port(), "--udp", links, "--speed", "60", "--pass", "live").wait_for_bed()
    tab = Tab(browser, program.url + "/", scheme="dark")
    page = tab.page
    button = page.get_by_role("button", name="Event")
    expect(page.locator(".words")).to_have_text("waiting for sensors")
    expect(button).to_be_disabled()
    sensor = subprocess.Popen([pathlib.Path(binary).with_name("sfm-sim"), MINI, "--udp", links, "--speed", "60"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    expect(button).to_be_enabled(timeout=30_000)
    button.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("[data-is='marks-note']")).to_have_text("Event: marked.")
    time.sleep(1.5)  # the button is itself again, and calls nobody back
    expect(button).to_be_enabled()
    assert page.evaluate("document.activeElement.dataset.mark") != "event", "the focus jumped back"
    expect(page.locator(".marks")).to_contain_text("Event button")
    expect(page.locator(".devices")).to_contain_text("up")
    expect(page.locator(".log")).to_contain_text("begins")
    judged(page)
    sensor.wait(120)
    program.process.wait(120)
    tab.close(outage=True)
    with pyedflib.EdfReader(str(program.out / "annotations.edf")) as reader:
        texts = list(reader.readAnnotations()[2])
    assert texts.count("Event button") == 1 and "Lights off" in texts, texts
    print("a button of the page is an annotation that pyedflib reads")


def silence_is_shown(browser, binary, folder):
    """A sensor that hangs: the bed and the overview say so, in words that are read out once."""
    recording, links = folder / "sensors.edf", f"127.0.0.1:{free_port()}"
    long_night(recording, 0.5)
    program = Program(binary, folder, None, free_port(), "--udp", links, "--speed", "20", "--pass", "live").wait_for_bed()
    sensor = subprocess.Popen([pathlib.Path(binary).with_name("sfm-sim"), recording, "--udp", links, "--speed", "20"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        tab = Tab(browser, program.url + "/#/bed/1")
        overview = Tab(browser, program.url + "/#/beds")
        banner, devices = tab.page.locator("[data-is='banner']"), tab.page.locator(".devices")
        expect(devices).to_contain_text("up", timeout=30_000)
        expect(banner).to_be_hidden(timeout=30_000)
        sensor.send_signal(signal.SIGSTOP)
        expect(banner).to_have_text("Failing: nothing has arrived.", timeout=30_000)
        expect(devices).to_contain_text("no samples for", timeout=30_000)
        expect(tab.page.locator("[data-is='trouble']")).to_contain_text("sends no samples")
        expect(overview.page.locator(".card").first).to_contain_text("nothing has arrived for", timeout=30_000)
        judged(tab.page)
        sensor.send_signal(signal.SIGCONT)
        expect(banner).to_be_hidden(timeout=30_000)
        expect(devices).not_to_contain_text("no samples for", timeout=30_000)
        expect(overview.page.locator(".card").first).not_to_contain_text("nothing has arrived", timeout=30_000)
    finally:
        sensor.kill()
        sensor.wait()
    program.end()
    tab.close(outage=True)
    overview.close(outage=True)
    print("a sensor that hangs is said on the bed's page and on the overview")


def names_are_text(browser, binary, folder):
    recording = folder / "<img src=x onerror=document.body.id='hacked'>.edf"
    shutil.copy(MINI, recording)
    program = Program(binary, folder, recording, free_port(), "--speed", "30").wait_for_bed()
    for view in ("#/beds", "#/bed/replay"):
        tab = Tab(browser, f"{program.url}/{view}")
        expect(tab.page.locator("main")).to_contain_text("<img src=x")
        assert tab.page.locator("main img").count() == 0 and tab.page.evaluate("document.body.id") == ""
        tab.close()
    program.end()
    print("a file's name is text, whatever it says")


def schema(api, content):
    return {**content["schema"], "components": api["components"]}


def asks_for_the_token(browser, program, token):
    tab = Tab(browser, program.url + "/")
    field = tab.page.get_by_label("Token")
    expect(field).to_be_focused()
    judged(tab.page)
    for word, told in (("not the token at all", "The token is wrong."), (token, None)):
        field.fill(word)
        tab.page.keyboard.press("Enter")
        if told:
            expect(tab.page.get_by_role("alert")).to_have_text(told)
    expect(tab.page.locator("#link")).to_have_text("connected")
    tab.page.reload()
    expect(tab.page.locator(".now")).to_be_visible()
    tab.errors = [error for error in tab.errors if "401" not in error]
    tab.close()
    print("the page asks for the token, once")


def documented(browser, binary, folder):
    """Every path answers as openapi.json says."""
    token = folder / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    program = Program(binary, folder, MINI, free_port(), "--speed", "10", "--token-file", token).wait_for_bed()
    api = json.loads(program.ask("/api/openapi.json")[2])
    openapi_spec_validator.validate(api)
    shown = {"Authorization": "Bearer " + token.read_text().strip()}
    ours = {"Origin": program.url, "Content-Type": "application/json"}
    until("a stage", lambda: json.loads(program.ask("/api/beds/replay", headers=shown)[2])["epochs"])
    mark, right = b'{"mark":"event"}', json.dumps({"token": token.read_text().strip()}).encode()
    asked = [
        ("/api/beds", "get", shown, None, 200), ("/api/beds", "get", {}, None, 401),
        ("/api/beds", "get", {**shown, "Origin": "http://other.example"}, None, 403), ("/api/beds", "get", {**shown, "Host": "other.example"}, None, 421),
        ("/api/beds/{bed}", "get", shown, None, 200), ("/api/beds/{bed}/signals?from=1", "get", shown, None, 200),
        ("/api/beds/{bed}/signals?from=-1", "get", shown, None, 400), ("/api/beds/{bed}/marks", "post", {**shown, **ours}, mark, 409),
        ("/api/beds/{bed}/marks", "post", {**shown, **ours}, b"{}", 400), ("/api/beds/{bed}/marks", "post", ours, mark, 401),
        ("/api/login", "post", ours, right, 204), ("/api/login", "post", ours, b'{"token":"no"}', 401), ("/api/login", "post", ours, b"no", 400),
        ("/api/openapi.json", "get", {}, None, 200),
    ]
    for path, method, headers, body, status in asked:
        described = api["paths"][path.split("?")[0]][method]["responses"]
        answer = described[str(status)]
        if "$ref" in answer:
            answer = api["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
        got, got_headers, text = program.ask(path.replace("{bed}", "replay"), method.upper(), headers, body)
        assert got == status, f"{method} {path}: {got} instead of {status}: {text}"
        for kind, content in answer.get("content", {}).items():
            assert got_headers["Content-Type"].split(";")[0] == kind, f"{path}: {got_headers['Content-Type']}"
            if kind == "application/json":
                jsonschema.Draft202012Validator(schema(api, content)).validate(json.loads(text))
    assert {path.split("?")[0] for path, *_ in asked} | {"/api/beds/{bed}/events"} == set(api["paths"])
    messages(api, program, shown)
    asks_for_the_token(browser, program, token.read_text().strip())
    program.end()
    print(f"openapi.json is valid; {len(asked)} answers and the stream are as it says")


def messages(api, program, shown):
    """The stream's messages by their schemas; stops at an epoch, signals and a settled window."""
    schemas = {"epoch": "Epoch", "quality": "Quality", "modality": "Modality", "gap": "Gap", "mark": "Mark", "log": "Line",
               "links": "Links", "health": "Health", "signals": "Extent"}
    last = json.loads(program.ask("/api/beds/replay", headers=shown)[2])["last_id"]
    request = urllib.request.Request(f"{program.url}/api/beds/replay/events?after={last}", headers=shown)
    seen, name = set(), None
    with urllib.request.urlopen(request, timeout=60) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        for line in stream:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data" and name in schemas:
                reference = {"schema": {"$ref": f"#/components/schemas/{schemas[name]}"}}
                jsonschema.Draft202012Validator(schema(api, reference)).validate(json.loads(value))
                seen.add(name)
            if {"epoch", "signals"} <= seen or name == "ended":
                break
    assert {"epoch", "signals"} <= seen, seen


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary", nargs="?", default=str(ROOT / "target/release/sfm-stream"))
    parser.add_argument("--speed", type=float, default=500)
    parser.add_argument("--hours", type=float, default=12)
    parser.add_argument("--report", type=pathlib.Path)
    options = parser.parse_args()
    if not CHROMIUM:
        print("skipped: no chromium (Debian's package chromium; SFM_CHROMIUM says where it is)")
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = pathlib.Path(folder)
        start = lambda: playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        browser, night_browser = start(), start()
        print(f"Chromium {browser.version}")
        if options.report:
            report_judged(browser, options.report)
        long_night(folder / "night.edf", options.hours)
        night = Program(options.binary, folder, folder / "night.edf", free_port(), "--pass", "live", "--speed", str(options.speed)).wait_for_bed()
        night_tab = Tab(night_browser, night.url + "/")
        memory = Memory(night_browser, night_tab)
        for check in (lambda: stages_arrive(browser, options.binary, folder), lambda: judged_by_axe(browser, night),
                      lambda: walked_by_keyboard(browser, night), lambda: names_are_text(browser, options.binary, folder),
                      lambda: marks_are_annotations(browser, options.binary, folder),
                      lambda: silence_is_shown(browser, options.binary, folder),
                      lambda: documented(browser, options.binary, folder)):
            check()
            memory.look()
        while night.process.poll() is None:
            memory.look()
            night_tab.page.wait_for_timeout(500)
        assert night.process.returncode == 0, pathlib.Path(night.log.name).read_text()
        memory.look()
        expect(night_tab.page.locator("#link")).to_have_text("run over", timeout=20_000)
        shown, wanted = epochs_shown(night_tab.page), options.hours * 120
        assert shown == wanted, f"{shown} of {wanted} epochs are shown"
        assert memory.heap < HEAP_MB, f"{memory.heap:.0f} MB of JavaScript"
        night_tab.close(outage=True)
        print(f"{options.hours:g} h at {options.speed:g} times real time in one tab: at most {memory.heap:.1f} MB of JavaScript's heap, "
              f"{memory.process:.0f} MB of the tab's process")
    print(f"all in {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
