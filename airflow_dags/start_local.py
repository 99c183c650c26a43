"""`python -m airflow_dags.start_local`: all of Airflow on this machine, on SQLite, every socket on loopback.

`airflow standalone` starts log servers on every interface; here the log files are read from disk instead.
`python -m airflow_dags.start_local -- backfill create ...` runs a command of `airflow` on the same database instead.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from airflow_dags.deployment import DEPLOYMENT_VARIABLE, deployment_path

ROOT = Path(__file__).parents[1]
HOST = "127.0.0.1"
_COMPONENTS = {
    "api-server": ("api-server", "--host", HOST, "--workers", "1"),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "triggerer": ("triggerer", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
}
_STARTS_WITHIN_S = 180.0


def settings(home: Path, port: int) -> dict[str, str]:
    """Environment of every part of Airflow."""
    address = f"http://{HOST}:{port}"
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "PYTHONPATH": str(ROOT),
        DEPLOYMENT_VARIABLE: str(deployment_path().resolve()),
        # SQLite has one writer at a time; the others wait for it so many seconds, by default 5
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags" / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",  # so that the last night runs at once
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",  # nobody but this machine reaches it
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a busy machine answers later than within 5 s
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def main() -> int:
    """Migrate, start, wait until it answers, and keep it all up until it is interrupted or a part ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=ROOT / "out" / "airflow", help="database, logs (%(default)s)")
    parser.add_argument("--port", type=int, default=8080, help="of the page, on 127.0.0.1 (%(default)s)")
    parser.add_argument("command", nargs="*", help="a command of `airflow` to run instead, after --")
    arguments = parser.parse_args()
    home = arguments.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    environment = settings(home, arguments.port)
    airflow = str(Path(sys.executable).with_name("airflow"))
    if arguments.command:
        return subprocess.run([airflow, *arguments.command], env=environment, check=False).returncode
    print(f"preparing the database in {home}", flush=True)
    with (home / "migrate.log").open("wb") as log:
        subprocess.run([airflow, "db", "migrate"], env=environment, stdout=log, stderr=log, check=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parts: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, words in _COMPONENTS.items():
            log = (home / f"{name}.log").open("ab")
            parts[name] = subprocess.Popen([airflow, *words], env=environment, stdout=log, stderr=log)
        return _watch(parts, home, arguments.port)
    except KeyboardInterrupt:
        return 0
    finally:
        for part in parts.values():
            part.terminate()
        for part in parts.values():
            try:
                part.wait(30)
            except subprocess.TimeoutExpired:
                part.kill()


def _watch(parts: dict[str, subprocess.Popen[bytes]], home: Path, port: int) -> int:
    until = time.monotonic() + _STARTS_WITHIN_S
    told = False
    while True:
        for name, part in parts.items():
            if part.poll() is not None:
                print(f"{name} ended with status {part.returncode}; see {home / f'{name}.log'}", file=sys.stderr)
                return 1
        if not told and _answers(port):
            told = True
            print(f"Airflow is at http://{HOST}:{port}/dags/nightly_curation (Ctrl-C ends it)", flush=True)
        if not told and time.monotonic() > until:
            print(f"Airflow does not answer after {_STARTS_WITHIN_S:g} s; see {home}", file=sys.stderr)
            return 1
        time.sleep(1)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/api/v2/version", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
