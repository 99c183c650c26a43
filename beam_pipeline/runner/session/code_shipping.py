"""Gets the user's code to workers whose environment lacks it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


@dataclass(frozen=True)
class ShippedCode:
    """What workers need before they run: Ray's runtime environment, and the pickled main session.

    `key` is equal where both are.
    """

    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    main_session: bytes | None = None
    key: str = ""


@contextlib.contextmanager
def ship_code(options: PipelineOptions) -> Iterator[ShippedCode]:
    """Ship what the options name, through the cluster that is connected."""
    yield ShippedCode()


def load_main_session(session: bytes) -> None:
    """Make the pickled main session this process's."""
