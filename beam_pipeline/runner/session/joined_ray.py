"""A Ray cluster that others started, joined with its token.

Ray retries a refused token for 20 s and an address where nobody listens for minutes, and tells neither apart, so both
are asked for first. A cluster that asks for no token is refused: whoever reaches its ports could run code on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import grpc
import ray
from ray._private import services
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

from beam_pipeline.runner.session.environment import environment

_CLIENT = "ray://"
# calls that any Ray answers, with an empty message as request
_GCS_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_CLIENT_CALL = "/ray.rpc.RayletDriver/ClusterInfo"
_ANSWER_S = 5.0
_TOKEN_REMEDY = (
    "set RAY_AUTH_TOKEN to the cluster's token, or RAY_AUTH_TOKEN_PATH to a file that holds it "
    "(`ray get-auth-token` prints it on the cluster)"
)


@contextlib.contextmanager
def joined(address: str) -> Iterator[None]:
    """Be connected to the cluster at `auto`, `HOST:PORT` or `ray://HOST:PORT`.

    Raises ConnectionError where no cluster answers, and PermissionError where the token is missing or refused or the
    cluster takes anybody.
    """
    mode = os.environ.get("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise PermissionError(
            f"RAY_AUTH_MODE={mode} turns token authentication off, which --ray_address={address} needs; "
            f"unset it and {_TOKEN_REMEDY}"
        )
    with environment({"RAY_AUTH_MODE": "token"}):
        _check_token(address)
        _check_answer(address)
        _connect(address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(address: str) -> None:
    """Ray client's server forks a process for each client, which now and then dies in handlers that gRPC runs in the
    fork, unless the server was started with GRPC_ENABLE_FORK_SUPPORT=0; then another is asked for.
    """
    for last in (False, False, True):
        try:
            ray.init(address, log_to_driver=False, configure_logging=False)
            return
        except ConnectionAbortedError:
            if last:
                raise
            ray.shutdown()


def _check_token(address: str) -> None:
    try:
        found = AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True)
    except ray.exceptions.AuthenticationError as error:
        raise PermissionError(
            f"the token for --ray_address={address} cannot be read ({error.message}); {_TOKEN_REMEDY}"
        ) from error
    if not found:
        raise PermissionError(f"there is no token for --ray_address={address}; {_TOKEN_REMEDY}")


def _check_answer(address: str) -> None:
    target, method = _target(address)
    header = tuple(AuthenticationTokenLoader.instance().get_token_for_http_header().items())
    with grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(method)
        known = _status(call, header)
        if known is grpc.StatusCode.UNAUTHENTICATED:
            raise PermissionError(f"the cluster at --ray_address={address} refuses this token; {_TOKEN_REMEDY}")
        if known in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            raise ConnectionError(
                f"no Ray answers at --ray_address={address} ({target}) within {_ANSWER_S:g} s; start it with "
                "`RAY_AUTH_MODE=token ray start --head`, or leave --ray_address out to start Ray on this machine"
            )
        if _status(call, ()) is not grpc.StatusCode.UNAUTHENTICATED:
            raise PermissionError(
                f"the cluster at --ray_address={address} asks for no token, so that anybody may run code on it; "
                "start it anew with RAY_AUTH_MODE=token on every node"
            )


def _status(call: grpc.UnaryUnaryMultiCallable, header: tuple[tuple[str, str], ...]) -> grpc.StatusCode:
    try:
        call(b"", timeout=_ANSWER_S, metadata=header)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def _target(address: str) -> tuple[str, str]:
    """The address as Ray will use it, and the call to ask there."""
    if address.startswith(_CLIENT):
        return address.removeprefix(_CLIENT), _CLIENT_CALL
    try:
        target = services.canonicalize_bootstrap_address(address)
    except (ConnectionError, ValueError) as error:
        raise ConnectionError(
            f"--ray_address={address} names no cluster ({error}); give HOST:PORT of its head node"
        ) from error
    if target is None:
        raise ConnectionError(
            f"--ray_address={address} finds no cluster on this machine; give HOST:PORT, set RAY_ADDRESS, "
            "or start one with `RAY_AUTH_MODE=token ray start --head`"
        )
    return target, _GCS_CALL
