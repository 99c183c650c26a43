"""The trigger that waits for recordings, on a real folder."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.conftest import ABSENT
from tests.airflow.test_deployment import GOOD, write

pytest.importorskip("airflow", reason=ABSENT)

from airflow_dags.sensor import NewDataTrigger, seen_from_json


def wait(trigger: NewDataTrigger, recordings: Path | None = None) -> dict[str, Any]:
    """The trigger's event; recordings arrive after a moment."""

    async def run() -> dict[str, Any]:
        async def arrive(folder: Path) -> None:
            await asyncio.sleep(0.4)
            folder.mkdir(parents=True)
            (folder / "a.mcap").write_bytes(b"1")

        arriving = asyncio.create_task(arrive(recordings)) if recordings else None
        async for event in trigger.run():
            if arriving:
                await arriving
            return dict(event.payload)
        raise AssertionError("no event")

    return asyncio.run(run())


@pytest.fixture
def deployment(tmp_path: Path) -> Path:
    return write(tmp_path, GOOD + "poll_seconds: 0.1\nsettle_seconds: 0.3\n")


def test_fires_once_recordings_have_arrived_and_settled(deployment: Path) -> None:
    start = time.monotonic()
    trigger = NewDataTrigger(str(deployment), "2026-11-26", [], time.time() + 30)
    event = wait(trigger, deployment.parent / "in" / "kitchen")
    assert event["why"] == "new recordings of kitchen"
    assert seen_from_json(event["seen"]).sources["kitchen"].files == 1
    assert time.monotonic() - start > 0.6, "0.4 s until they arrive, 0.3 s until they are settled"


def test_gives_up_in_time_and_says_what_it_waited_for(deployment: Path) -> None:
    event = wait(NewDataTrigger(str(deployment), "2026-11-26", [], time.time() + 0.3))
    assert event == {"why": "nothing lies yet where kitchen arrives", "seen": None}


def test_comes_back_from_the_database_as_it_was(deployment: Path) -> None:
    path, arguments = NewDataTrigger(str(deployment), "2026-11-26", ["kitchen"], 7.0).serialize()
    assert path == "airflow_dags.sensor.NewDataTrigger"
    assert NewDataTrigger(**arguments).serialize() == (path, arguments)
