"""Gets the user's code, and the runner's own, to workers whose environment lacks it: through Ray's runtime_env."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import pickle
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import ray
from ray._private.runtime_env import packaging as ray_packaging
from ray.util import client

from beam_pipeline.runner.beam_internals import pickler
from beam_pipeline.runner.session import worker_probe
from beam_pipeline.runner.session.code_packing import PackedCode, pack_package

_Answer = TypeVar("_Answer")
_RUNNER = __name__.removesuffix(".session.code_shipping")
# Ray drops an archive that no worker uses; while a run lives, a later worker may still want it
_KEEP_S = 600
_KEEP_AGAIN_S = 240.0


@dataclass(frozen=True)
class ShippedCode:
    """What workers need before they run: Ray's runtime environment, and the pickled main session.

    `key` is equal where both are.
    """

    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    main_session: bytes | None = None
    key: str = ""


@contextlib.contextmanager
def ship_code(packed: PackedCode, joined: bool) -> Iterator[ShippedCode]:
    """Upload packed code to the connected cluster, and keep it there until the context is left.

    On a `joined` cluster the runner itself is shipped too where a worker that is asked has none or another, since
    BundleWorker is pickled by reference; and Ray installs what is required on the nodes. On a Ray of our own the
    workers' environment is this one, so that only what is missing here is installed.
    """
    archives = [packed.archive] if packed.archive else []
    if joined and not packed.holds(_RUNNER) and _ask(worker_probe.package_digest, _RUNNER) != _runner_digest():
        archives.append(pack_package(_RUNNER))
    with contextlib.ExitStack() as stack:
        uris = {_uri(archive): archive for archive in archives}
        runtime_env: dict[str, Any] = {}
        if uris:
            stack.enter_context(_kept(uris))
            # what workers would inherit from this process or its Ray is replaced by what they are given
            runtime_env["py_modules"] = list(dict.fromkeys([*uris, *_inherited_modules()]))
        install = _to_install(packed, joined, runtime_env)
        if install:
            runtime_env["pip"] = {"packages": install, "pip_check": False}
        yield ShippedCode(runtime_env, packed.main_session, _key(runtime_env, packed.main_session))


def load_main_session(session: bytes) -> None:
    """Make the pickled main session this process's, and its pickle library the one that unpickles DoFns."""
    library, dump = pickle.loads(session)
    pickler.set_library(library)
    if dump is not None:
        with tempfile.TemporaryDirectory(prefix="beam-ray-code-") as temp:
            path = Path(temp, "main_session")
            path.write_bytes(dump)
            pickler.load_session(str(path))


def explain_missing_module(error: BaseException) -> str | None:
    """What to do where an error comes from a module that the worker lacks; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError):
            return (
                f"the worker's environment has no module {cause.name!r}; ship the pipeline's own modules with "
                "--setup_file ./setup.py (or --extra_package), installed packages with --requirements_file, and "
                "what the main script defines with --save_main_session"
            )
        cause = cause.__cause__ or cause.__context__
    return None


@contextlib.contextmanager
def by_value(module: ModuleType) -> Iterator[None]:
    """Within, what the module defines is pickled whole, for a process that cannot import it."""
    ray.cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)


def _ask(question: Callable[..., _Answer], *about: Any, runtime_env: Mapping[str, Any] | None = None) -> _Answer:
    """Let a worker of the cluster answer."""
    with by_value(worker_probe):
        answer = ray.remote(question).options(num_cpus=0, runtime_env=runtime_env).remote(*about)
    found: _Answer = ray.get(answer)
    return found


def _to_install(packed: PackedCode, joined: bool, runtime_env: Mapping[str, Any]) -> list[str]:
    if joined:
        lacking = _ask(worker_probe.unmet, packed.declared, runtime_env=runtime_env or None) if packed.declared else []
        return [*packed.requirements, *lacking]
    lacking = worker_probe.unmet(packed.declared)
    return [*packed.requirements, *lacking] if lacking or worker_probe.unmet(packed.requirements) else []


@functools.cache
def _runner_digest() -> str | None:
    return worker_probe.package_digest(_RUNNER)


def _inherited_modules() -> list[str]:
    return [] if client.ray.is_connected() else list(ray.get_runtime_context().runtime_env.get("py_modules") or ())


def _uri(archive: bytes) -> str:
    limit = ray_packaging.GCS_STORAGE_MAX_SIZE
    if len(archive) > limit:
        raise ValueError(
            f"the packed code has {len(archive) / 1e6:.0f} MB and Ray ships at most {limit / 1e6:.0f} MB; "
            "leave data out of the project's packages (--setup_file), or install it on the cluster's nodes"
        )
    return f"gcs://{ray_packaging.RAY_PKG_PREFIX}{hashlib.sha256(archive).hexdigest()[:32]}.zip"


@contextlib.contextmanager
def _kept(archives: Mapping[str, bytes]) -> Iterator[None]:
    """Keep archives on the cluster. A worker stores them: Ray client cannot."""
    done = threading.Event()

    def keep() -> None:
        while not done.wait(_KEEP_AGAIN_S):
            # a cluster that is gone is noticed by the run itself
            with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
                _ask(worker_probe.keep_archives, archives, _KEEP_S)

    _ask(worker_probe.keep_archives, archives, _KEEP_S)
    thread = threading.Thread(target=keep, name="ray-code-keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _key(runtime_env: Mapping[str, Any], main_session: bytes | None) -> str:
    if not runtime_env and main_session is None:
        return ""
    text = json.dumps(runtime_env, sort_keys=True).encode()
    return hashlib.sha256(text + b"\0" + (main_session or b"")).hexdigest()
