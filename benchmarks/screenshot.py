"""Pictures of NNI's web page for one experiment: overview, learning curves with an opened trial, hyper-parameters.

    python benchmarks/screenshot.py http://127.0.0.1:8080 --out docs/pictures

Drives headless Chromium through its DevTools protocol, because the interesting parts of the page (an opened trial row,
the tabs) appear only after a click. NNI's icons are drawn with a font from a server; without it each icon is an empty
box, so the pictures leave the icons out. The experiment's page must be up; it is only looked at, nothing is changed.
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",  # Chromium picks a free port and writes it into its profile folder
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT_SECONDS = 30.0
SETTLE_SECONDS = 1.5  # the charts grow in an animation of about one second

HIDE_ICONS = """
const style = document.createElement('style');
style.textContent = 'i[data-icon-name] {visibility: hidden !important} ::-webkit-scrollbar {display: none}';
document.head.append(style);
"""
HAS_TEXT = "document.body.innerText.includes({text})"
CLICK_TEXT = """
(() => {{
  const found = [...document.querySelectorAll('button, [role=tab]')].find(e => e.innerText.trim().endsWith({text}));
  if (found) found.click();
  return Boolean(found);
}})()
"""
OPEN_TRIAL = """
(() => {{
  const cell = key => row => row.querySelector(`[data-automation-key="${{key}}"]`);
  const row = [...document.querySelectorAll('[role=row]')]
    .find(row => cell('sequenceId')(row)?.innerText.trim() === {number});
  const arrow = row && cell('_expand')(row).querySelector('i');
  if (arrow) arrow.click();
  return Boolean(arrow);
}})()
"""


class Page:
    """One browser tab, spoken to through the DevTools protocol."""

    def __init__(self, connection: ClientConnection, width: int, height: int) -> None:
        self._connection = connection
        self._last_id = 0
        self._width = width
        self._height = height

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result; events that arrive in between are dropped."""
        self._last_id += 1
        self._connection.send(json.dumps({"id": self._last_id, "method": method, "params": params}))
        while True:
            answer = json.loads(self._connection.recv(timeout=WAIT_SECONDS))
            if answer.get("id") == self._last_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait(self, expression: str, what: str) -> None:
        """Evaluate ``expression`` until it is true; SystemExit naming ``what`` if it stays false."""
        poll(lambda: self.evaluate(expression), what)

    def resize(self, height: int) -> None:
        """Give the window this height and the width it was made with, in CSS pixels."""
        size = {"width": self._width, "height": height}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)

    def open(self, url: str, ready_text: str) -> None:
        """Load ``url`` in a window of the usual size and wait until the page shows ``ready_text``."""
        self.resize(self._height)
        self.call("Page.navigate", url=url)
        self.wait(HAS_TEXT.format(text=json.dumps(ready_text)), f"'{ready_text}' on {url}")
        self.evaluate(HIDE_ICONS)

    def save(self, path: Path) -> None:
        """Write the whole page as PNG, however long it is."""
        time.sleep(SETTLE_SECONDS)
        self.resize(max(self._height, self.evaluate("document.documentElement.scrollHeight")))
        time.sleep(SETTLE_SECONDS)
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(picture))
        print(path)


def poll(condition: Callable[[], Any], what: str) -> Any:
    """First true value of ``condition``; SystemExit naming ``what`` when none came within WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise SystemExit(f"Gave up waiting for {what} after {WAIT_SECONDS:.0f} s.")


@contextmanager
def browser_page(width: int, height: int) -> Iterator[Page]:
    """A tab of the given size (CSS pixels) in a headless Chromium that ends with the block."""
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"No browser found (looked for {', '.join(BROWSERS)}); install Chromium.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, *CHROMIUM_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            text = poll(lambda: port_file.exists() and port_file.read_text(), "Chromium to start")
            with urllib.request.urlopen(f"http://127.0.0.1:{text.split()[0]}/json") as answer:
                target = next(tab for tab in json.load(answer) if tab["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=None, proxy=None) as connection:
                yield Page(connection, width, height)
        finally:
            process.terminate()
            process.wait(timeout=WAIT_SECONDS)


def experiment_of(url: str) -> dict[str, Any]:
    """NNI's own description of the experiment served at ``url``."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/nni/experiment", timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ValueError) as error:
        raise SystemExit(f"No NNI experiment answers at {url} ({error}).") from error


def take_pictures(url: str, out: Path, trial: int, width: int, height: int) -> None:
    """Save overview.png, trial.png and hyperparameters.png of the experiment at ``url`` into the folder ``out``."""
    name = experiment_of(url)["params"].get("experimentName") or "Overview"
    out.mkdir(parents=True, exist_ok=True)
    with browser_page(width, height) as page:
        page.open(f"{url}/oview", name)
        page.save(out / "overview.png")

        page.open(f"{url}/detail", "Trial jobs")
        page.wait(
            CLICK_TEXT.format(text=json.dumps("Intermediate result")), "the tab of intermediate results"
        )
        page.wait(OPEN_TRIAL.format(number=json.dumps(str(trial))), f"trial no. {trial} in the table")
        page.wait(HAS_TEXT.format(text=json.dumps("Parameters")), f"the parameters of trial no. {trial}")
        page.save(out / "trial.png")

        page.open(f"{url}/detail", "Trial jobs")
        page.wait(CLICK_TEXT.format(text=json.dumps("Hyper-parameter")), "the tab of hyper-parameters")
        page.save(out / "hyperparameters.png")


def main() -> None:
    """Command line; see the module's text."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="address of the experiment's page, as nnictl prints it")
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"), help="folder of the PNG files")
    parser.add_argument("--trial", type=int, default=0, help="number of the trial whose row is opened")
    parser.add_argument("--width", type=int, default=1400)
    parser.add_argument("--height", type=int, default=900, help="least height; the page may need more")
    args = parser.parse_args()
    take_pictures(args.url.rstrip("/"), args.out, args.trial, args.width, args.height)


if __name__ == "__main__":
    main()
