"""Whether a fork of this process may become others' interpreter: only where it has done nothing but import."""

from __future__ import annotations

import asyncio
import locale
import socket
import sys
import threading
import types
import warnings

_RUNNER = __name__.removesuffix(".session.fork_safety")
_RECURSION_LIMIT = 1000
# what Beam and NumPy import, each known to survive a fork after it is imported; their threads are OpenBLAS's and
# jemalloc's, which both stop and start them around a fork
# fmt: off
_KNOWN = frozenset({
    "__main__", "__mp_main__", "_cffi_backend", "_cyutility", "_distutils_hack", "_openssl", "annotated_types",
    "apache_beam", "attr", "attrs", "backports", "beartype", "boto3", "botocore", "brotli", "bson", "certifi",
    "cffi", "charset_normalizer", "click", "cloudpickle", "colorama", "crcmod", "cryptography", "cython_runtime",
    "dateutil", "dill", "docopt", "fastavro", "fasteners", "filelock", "google", "grpc", "grpc_status", "hdfs",
    "httplib2", "idna", "jmespath", "jsonpickle", "jsonschema", "jsonschema_specifications", "lz4", "markupsafe",
    "msgpack", "numpy", "objsize", "opentelemetry", "orjson", "packaging", "pandas", "pkg_resources", "proto",
    "psutil", "pyarrow", "pyarrow_hotfix", "pydantic", "pydantic_core", "pydot", "pymongo", "pyparsing", "pytz",
    "referencing", "regex", "requests", "rpds", "s3transfer", "setuptools", "six", "sortedcontainers", "tqdm",
    "typing_extensions", "typing_inspection", "tzdata", "urllib3", "xxhash", "yaml", "zstandard",
})
# fmt: on
_KNOWN_PREFIXES = ("_cython_", "__editable__", "_sysconfigdata")
_CHANGED_FLAGS = ("dev_mode", "ignore_environment", "inspect", "no_site", "optimize")


def fork_is_safe() -> bool:
    """True where the process runs one Python thread, the main one, has imported nothing but Beam, what that needs, this
    runner and its script, and has changed no setting that would reach into the workers.

    Ray must not be imported: its C++ side keeps variables that a worker must have when that is loaded.

    What a script defines stays behind, with its `__main__`; a module of the user's could hold connections, locks or
    threads of its own, and what it had changed would be seen in workers here but not on a cluster.
    """
    return (
        sys.platform == "linux"
        and threading.current_thread() is threading.main_thread()
        and threading.active_count() == 1
        and asyncio._get_running_loop() is None
        and not any(getattr(sys.flags, name) for name in _CHANGED_FLAGS)
        and not foreign_modules()
        and _settings_are_unchanged()
    )


def foreign_modules() -> set[str]:
    """Imported modules that a worker would not have when it starts, by the names that decide."""
    loaded = list(sys.modules)
    # every interpreter of this environment has those that site imports; it is listed itself once it is done
    loaded = loaded[loaded.index("site") :]
    own = _RUNNER.partition(".")[0]
    around = {name for name in loaded if _RUNNER.startswith(f"{name}.")}
    # and what the runner's own package imports
    around |= {m.__name__ for a in around for m in vars(sys.modules[a]).values() if isinstance(m, types.ModuleType)}
    foreign = set()
    for name in loaded:
        top = name.partition(".")[0]
        if name == _RUNNER or name.startswith(f"{_RUNNER}.") or (name in around and not name.startswith(f"{own}.")):
            continue
        if top not in _KNOWN and top not in sys.stdlib_module_names and not top.startswith(_KNOWN_PREFIXES):
            foreign.add(name)
    return foreign


def _settings_are_unchanged() -> bool:
    import numpy as np

    return (
        sys.gettrace() is None
        and sys.getprofile() is None
        and sys.getrecursionlimit() == _RECURSION_LIMIT
        and not sys.warnoptions
        and not any(filter_[1:4] == (None, Warning, None) for filter_ in warnings.filters)
        and socket.getdefaulttimeout() is None
        and locale.setlocale(locale.LC_NUMERIC) == "C"
        and np.geterr() == {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
    )
