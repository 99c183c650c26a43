"""Requests to an object store: what lies where, ranges of an object, conditional writes; passing errors are retried.

Endpoints and credentials are those of gcsfs and s3fs: their own environment variables (AWS_*, GOOGLE_APPLICATION_
CREDENTIALS, STORAGE_EMULATOR_HOST) and fsspec's configuration (FSSPEC_S3_*, FSSPEC_GS_*).
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from transforms.stores.urls import SCHEMES, key_of
from transforms.unreadable import Unreadable

T = TypeVar("T")

BACKOFF_S = (0.5, 2.0, 8.0)
"""Waits between tries, at most the time limit, each up to a quarter longer by chance.

Within a try, gcsfs and s3fs try again by themselves too.
"""
TRIES = len(BACKOFF_S) + 1
TIMEOUT_VARIABLE = "DEMOSIFT_STORE_TIMEOUT_S"
_TIMEOUT_S = 60.0
_WRITE_TIMEOUT_S = 3600.0
_REFUSED_CODES = {
    *("401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"),
    *("AccountProblem", "AllAccessDisabled", "Forbidden"),
}
_REFUSED_TYPES = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"),
    *("DefaultCredentialsError", "RefreshError", "ProfileNotFound"),
}
_CHANGED_CODES = {"412", "PreconditionFailed"}


class StoreRefused(Unreadable):
    """The store refuses the credentials; no retry helps."""


@dataclass(frozen=True)
class Entry:
    """An object, or a folder of such (`size` 0).

    `version` is the generation or ETag that this is about, `checksum` the MD5 (where there is none CRC-32C) or ETag.
    """

    size: int
    version: str = ""
    checksum: str = ""
    mtime_ns: int = 0
    is_folder: bool = False


def filesystem(url: str) -> Any:
    """fsspec's file system of a URL, one per process. Raises ModuleNotFoundError that names the extra."""
    import fsspec

    scheme = url.partition(":")[0]
    # with it gcsfs asks what kind of bucket it writes to, which takes an emulator two minutes
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{url} needs {error}; pip install 'demosift[{SCHEMES[scheme]}]'", name=error.name
        ) from error


def timeout_s() -> float:
    """Longest wait for one try of one request; the environment may set another."""
    return float(os.environ.get(TIMEOUT_VARIABLE, _TIMEOUT_S))


def retried(url: str, request: Callable[[float], T], limit_s: float | None = None) -> T:
    """The answer to a request, which is given its time limit; passing errors are tried again with backoff.

    Raises FileNotFoundError, FileExistsError, StoreRefused, and Unreadable `unreadable` where all tries fail.
    """
    limit = timeout_s() if limit_s is None else limit_s
    for wait_s in (*BACKOFF_S, None):
        try:
            return request(limit)
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
        except (FileExistsError, ModuleNotFoundError, Unreadable):
            raise
        except faults(url) as error:
            if refused(error):
                detail = f"{url}: the store refuses the credentials ({_first_line(error)}); check them and their rights"
                raise StoreRefused("unreadable", detail) from error
            if _codes(error) & _CHANGED_CODES:
                raise _replaced(url) from error
            if wait_s is None:
                detail = f"{url}: {TRIES} tries failed, the last by {type(error).__name__}: {_first_line(error)}"
                raise Unreadable("unreadable", f"{detail}; check the store and the network, and run again") from error
        time.sleep(min(wait_s, limit) * random.uniform(1.0, 1.25))
    raise AssertionError("the last try returns or raises")


def faults(url: str) -> tuple[type[BaseException], ...]:
    """What the libraries that serve a URL raise; they share no base class."""
    import aiohttp

    if url.startswith("gs:"):
        import google.auth.exceptions
        from gcsfs.retry import ChecksumError, HttpError

        own: tuple[type[BaseException], ...] = (google.auth.exceptions.GoogleAuthError, ChecksumError, HttpError)
    else:
        import botocore.exceptions

        own = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError)
    return (OSError, ValueError, RuntimeError, aiohttp.ClientError, *own)


def refused(error: BaseException) -> bool:
    """Whether an error of gcsfs, s3fs or what they stand on says that the credentials are refused or absent."""
    if isinstance(error, PermissionError) or type(error).__name__ in _REFUSED_TYPES:
        return True
    return bool(_codes(error) & _REFUSED_CODES) or (isinstance(error, OSError) and str(error).startswith("Forbidden"))


def _codes(error: BaseException) -> set[str]:
    """Codes that an error and its cause carry: HTTP status, or the store's own word."""
    found = set()
    for one in filter(None, (error, error.__cause__)):
        response = getattr(one, "response", None)
        if isinstance(response, Mapping):
            found.add(str(response.get("Error", {}).get("Code", "")))
            found.add(str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")))
        found.add(str(getattr(one, "code", "")))
    return found


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]


def _entry(info: Mapping[str, Any]) -> Entry:
    if info["type"] == "directory":
        return Entry(0, is_folder=True)
    written = info.get("LastModified") or info.get("mtime") or info.get("updated") or 0
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    seconds = written.timestamp() if isinstance(written, datetime) else float(written)
    version = str(info.get("generation") or info.get("ETag") or info.get("etag") or "")
    checksum = str(info.get("md5Hash") or info.get("crc32c") or version)
    return Entry(int(info["size"]), version, checksum, int(seconds * 1e6) * 1000)


def look_up(url: str) -> Entry:
    """What lies at a URL. Raises FileNotFoundError, and as `retried` does."""
    return _entry(retried(url, lambda limit: filesystem(url).info(key_of(url), timeout=limit)))


def look_into(url: str) -> dict[str, Entry]:
    """The entries of a folder by name. Raises FileNotFoundError where there is none, and as `retried` does."""
    folder = key_of(url)
    found = retried(url, lambda limit: filesystem(url).ls(folder, detail=True, refresh=True, timeout=limit))
    names = {info["name"].rstrip("/"): info for info in found}
    if set(names) == {folder} and names[folder]["type"] != "directory":
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), url)
    names.pop(folder, None)  # the marker that some tools write for a folder
    return {name.rpartition("/")[2]: _entry(info) for name, info in names.items()}


def fetch(url: str, version: str, start: int, end: int) -> bytes:
    """Bytes `[start, end)` of one version of an object.

    Raises Unreadable: `absent` where it is gone, `unreadable` where it was replaced or the tries fail; StoreRefused.
    """

    def request(limit: float) -> bytes:
        data: bytes = _range_of(filesystem(url), url, version, start, end, limit)
        if len(data) != end - start:
            raise ConnectionError(f"{len(data)} bytes came of the {end - start} from byte {start}")
        return data

    try:
        return retried(url, request)
    except FileNotFoundError as error:
        try:
            look_up(url)
        except FileNotFoundError:
            raise Unreadable("absent", f"{url} is gone since it was listed; restore it, or run again") from error
        raise _replaced(url) from error


def _replaced(url: str) -> Unreadable:
    return Unreadable("unreadable", f"{url}: the object was replaced while it was read; run again")


def _range_of(system: Any, url: str, version: str, start: int, end: int, limit: float) -> bytes:
    if url.startswith("gs:"):
        data: bytes = system.cat_file(key_of(url), start=start, end=end, generation=version or None, timeout=limit)
        return data
    from fsspec.asyn import sync

    bucket, _, key = key_of(url).partition("/")

    async def get() -> bytes:
        condition = {"IfMatch": version} if version else {}
        reply = await system._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **condition
        )
        try:
            return bytes(await reply["Body"].read())
        finally:
            reply["Body"].close()

    return bytes(sync(system.loop, get, timeout=limit))


def create(url: str, body: bytes) -> None:
    """Write a small object that must not be there yet. Raises FileExistsError, and as `retried` does."""

    def request(limit: float) -> None:
        try:
            filesystem(url).pipe_file(key_of(url), body, mode="create", timeout=limit)
        except OSError as error:
            if _codes(error) & _CHANGED_CODES:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), url) from error
            raise

    retried(url, request)


def upload(path: Path, url: str) -> None:
    """Write a file as an object, whatever is there. Raises as `retried` does."""
    retried(url, lambda limit: filesystem(url).put_file(str(path), key_of(url), timeout=limit), _WRITE_TIMEOUT_S)


def download(url: str, path: Path) -> None:
    """Write an object to a file. Raises FileNotFoundError, and as `retried` does."""
    retried(url, lambda limit: filesystem(url).get_file(key_of(url), str(path), timeout=limit), _WRITE_TIMEOUT_S)


def read_whole(url: str) -> bytes:
    """A small object, as it is now. Raises FileNotFoundError, and as `retried` does."""
    data: bytes = retried(url, lambda limit: filesystem(url).cat_file(key_of(url), timeout=limit))
    return data
