"""Environment variables that Ray's C++ side reads, which it does only when told to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

# Ray leaves its remote debugger here, where breakpoint() would find it after Ray is gone
_RAYS_OWN = "PYTHONBREAKPOINT"


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for Ray while the context lasts, then put back what was there."""
    before = {name: os.environ.get(name) for name in (*variables, _RAYS_OWN)}
    os.environ.update(variables)
    reread()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        reread()


def reread() -> None:
    """Have Ray's C++ side read the environment again."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
