"""`make observe`: a real run on Ray, watched by a real Prometheus, and a page of what its dashboards show.

python -m infra.observe SAMPLE OUTPUT [--picture PICTURE.png]

All servers are processes of our own on the loopback, in a network namespace of their own where one may be made, and
all have ended when this returns. OUTPUT gets page.html, found.json (what each panel showed), names.json (all names that
were scraped), ray_metrics.txt (what Ray's agent exported), the servers' logs, and the curated set.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from infra.observe.browser import PageFault, check, picture
from infra.observe.page import ask, found_json, page
from infra.observe.prometheus_api import PrometheusApi
from infra.observe.servers import NotStarted, ray_node, watching

_NAMESPACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_INSIDE = "DEMOSIFT_OBSERVE_INSIDE"
_SET_FLAGS, _UP = 0x8914, 0x1
_SETTLES_S = 4.0
"""Until what was pushed is scraped, and rules that stand on it are computed: two intervals each."""


def main(arguments: Sequence[str]) -> int:
    """The command line; 1 where something did not work, 2 where an argument cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m infra.observe", description=__doc__)
    parser.add_argument("sample", type=Path, metavar="SAMPLE", help="folder made by python -m examples.make_sample")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="new, or one that this made")
    parser.add_argument("--picture", type=Path, help="screenshot of the page (default: OUTPUT/page.png)")
    given = parser.parse_args(arguments)
    if not (given.sample / "sample.yaml").exists():
        print(f"{given.sample} holds no sample.yaml; python -m examples.make_sample {given.sample}", file=sys.stderr)
        return 2
    if _INSIDE not in os.environ and _may_have_namespaces():
        words = [*_NAMESPACES, sys.executable, "-m", "infra.observe", *arguments]
        return subprocess.run(words, env={**os.environ, _INSIDE: "1"}, check=False).returncode
    if _INSIDE in os.environ:
        _raise_loopback()
    try:
        observe(given.sample, given.output.resolve(), given.picture or given.output / "page.png")
    except (NotStarted, PageFault, RunFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


class RunFailed(Exception):
    """The run that was to be watched did not end well."""


def observe(sample: Path, output: Path, target: Path) -> None:
    """Run, ask, draw, look. Raises NotStarted, RunFailed and PageFault."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    with ray_node(output) as ray, watching(output, ray.targets) as watch:
        start_s = time.time()
        log = output / "run.log"
        words = [sys.executable, "-m", "beam_pipeline", "curate", "--config", str(sample / "sample.yaml")]
        words += ["--output", str(output / "sample"), "--runner=RayRunner", f"--ray_address={ray.address}"]
        with log.open("wb") as file, _Exported(output / "ray_metrics.txt", ray.targets):
            run = subprocess.run(
                [*words, f"--push_gateway={watch.gateway}"], env=ray.environment, stdout=file, stderr=file, check=False
            )
        if run.returncode != 0:
            raise RunFailed(f"the run ended with exit status {run.returncode}; {log}: {log.read_text()[-2000:]}")
        time.sleep(_SETTLES_S)
        end_s = time.time()
        api = PrometheusApi(watch.prometheus)
        answered = ask(api, start_s, end_s)
        names = api.names()
    (output / "names.json").write_text(json.dumps(names, indent=1), encoding="utf-8")
    (output / "found.json").write_text(found_json(answered), encoding="utf-8")
    what = (
        f"What Prometheus saw of a run of the sample on RayRunner, up to {end_s - start_s:.0f} s after its start. Each "
        "graph is a panel of infra/grafana, drawn from its own query; times count from the run's start."
    )
    drawn = output / "page.html"
    drawn.write_text(page(answered, start_s, end_s, what), encoding="utf-8")
    shown = [one.panel.title for one in answered if not one.panel.gpu or one.series]
    height = check(drawn, shown)
    picture(drawn, height, target)
    silent = [f"{one.dashboard.title}: {one.panel.title}" for one in answered if not one.series and not one.panel.gpu]
    if silent:
        raise PageFault(f"panels without data: {'; '.join(silent)}")
    print(f"{len(shown)} panels with data, {len(names)} names: {drawn}, {target}")


class _Exported:
    """Keeps every sample line's name and help that Ray's agents export while within the context."""

    def __init__(self, file: Path, targets: Path) -> None:
        self._file = file
        self._urls = [
            f"http://{target}/metrics" for group in json.loads(targets.read_text()) for target in group["targets"]
        ]
        self._stop = threading.Event()
        self._seen: dict[str, str] = {}
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.write_text("".join(f"{line}\n" for _, line in sorted(self._seen.items())), encoding="utf-8")

    def _look(self) -> None:
        while not self._stop.wait(2.0):
            for url in self._urls:
                try:
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        lines = answer.read().decode().splitlines()
                except OSError:  # an agent that is busy is asked again
                    continue
                for line in lines:
                    if line and not line.startswith("#"):
                        self._seen.setdefault(line.partition("{")[0].split(" ")[0], line)


def _may_have_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*_NAMESPACES, "true"], capture_output=True, check=False).returncode == 0


def _raise_loopback() -> None:
    """Bring `lo` up, as `ip link set lo up` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
