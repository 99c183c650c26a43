"""A picture of the nightly DAG after its newest run that ended well, taken by headless Chromium of `make airflow`.

python -m examples.picture_dag -o PICTURE.png [--address http://127.0.0.1:8080] [--width 1440] [--height 760]

The page draws itself, so that it is asked until every task's box stands still.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from websockets.sync.client import ClientConnection, connect

from examples.picture_report import BROWSERS, COLOURS

DAG = "nightly_curation"
TASKS = ("wait_for_recordings", "plan", "evidence", "decide", "announce")
DRAWN_WITHIN_S = 90.0
_STILL_LOOKS = 4
_SETTINGS = "localStorage.setItem('default_dag_view', '\"graph\"'); localStorage.setItem('theme', 'light')"
_BOXES = """JSON.stringify([...document.querySelectorAll('[data-testid^="rf__node-"]')]
    .filter(box => getComputedStyle(box).visibility === 'visible')
    .map(box => [box.dataset.id, box.innerText, box.getBoundingClientRect()]))"""


class Tab:
    """A tab of Chromium by its DevTools protocol, https://chromedevtools.github.io/devtools-protocol/."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count()

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """What a method answers; raises RuntimeError where it refuses."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:  # events come in between
            answer = json.loads(self._socket.recv(timeout=DRAWN_WITHIN_S))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def boxes(self) -> list[tuple[str, str, dict[str, float]]]:
        """Name, text and place of every box that is drawn."""
        found = self.call("Runtime.evaluate", expression=_BOXES)["result"].get("value", "[]")
        return [tuple(box) for box in json.loads(found)]


def newest_run(address: str) -> str:
    """The newest run that ended well. Raises SystemExit where there is none, OSError where nobody answers."""
    with urllib.request.urlopen(f"{address}/auth/token", timeout=30) as answer:
        token = json.load(answer)["access_token"]
    url = f"{address}/api/v2/dags/{DAG}/dagRuns?state=success&order_by=-run_after&limit=1"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        runs = json.load(answer)["dag_runs"]
    if not runs:
        raise SystemExit(f"no run of {DAG} at {address} has ended well yet")
    return str(runs[0]["dag_run_id"])


def take(browser: str, page: str, width: int, height: int) -> bytes:
    """The PNG of a run's page once it is drawn; raises TimeoutError where it never is."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")
        size = f"--window-size={width},{height}"
        process = subprocess.Popen(
            [browser, *flags, size, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_tab_of(Path(profile)), max_size=None) as socket:
                tab = Tab(socket)
                tab.call("Page.enable")
                tab.call(
                    "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
                )
                tab.call("Page.addScriptToEvaluateOnNewDocument", source=_SETTINGS)
                tab.call("Page.navigate", url=page)
                _wait(tab)
                return base64.b64decode(tab.call("Page.captureScreenshot", format="png")["data"])
        finally:
            process.terminate()
            process.wait(30)


def _tab_of(profile: Path) -> str:
    """The address of the browser's first tab, once it listens on a port, on the loopback, that it chose."""
    until = time.monotonic() + DRAWN_WITHIN_S
    while time.monotonic() < until:
        lines = (
            (profile / "DevToolsActivePort").read_text().splitlines()
            if (profile / "DevToolsActivePort").exists()
            else []
        )
        if len(lines) > 1:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=30) as answer:
                tabs = [tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0])
        time.sleep(0.1)
    raise TimeoutError(f"Chromium has no tab after {DRAWN_WITHIN_S:g} s")


def _wait(tab: Tab) -> None:
    until, before, still = time.monotonic() + DRAWN_WITHIN_S, None, 0
    while still < _STILL_LOOKS:
        if time.monotonic() > until:
            raise TimeoutError(f"the boxes of {', '.join(TASKS)} are not drawn after {DRAWN_WITHIN_S:g} s: {before}")
        time.sleep(0.5)
        now = tab.boxes()
        whole = {name for name, text, _ in now if text.strip()} >= set(TASKS)
        still = still + 1 if whole and now == before else 0
        before = now


def main() -> int:
    """Take one picture."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("-o", "--picture", type=Path, required=True)
    arguments.add_argument("--address", default="http://127.0.0.1:8080")
    arguments.add_argument("--width", type=int, default=1440)
    arguments.add_argument("--height", type=int, default=760)
    given = arguments.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        arguments.error(f"none of {', '.join(BROWSERS)} is installed; apt-get install chromium")
    run = newest_run(given.address)
    taken = take(browser, f"{given.address}/dags/{DAG}/runs/{quote(run)}", given.width, given.height)
    few = Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(given.picture, optimize=True)
    print(f"{given.picture}: {run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
