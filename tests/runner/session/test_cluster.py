from __future__ import annotations

from pathlib import Path

import pytest
import ray
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipeline.runner.options import RunnerConfig
from beam_pipeline.runner.session.cluster import current_session, share_session, use_session
from beam_pipeline.runner.session.code_packing import PackedCode
from beam_pipeline.runner.session.joined_ray import joined
from beam_pipeline.runner.session.ray_session import RaySession
from tests.runner.session.conftest import Cluster


def config(*flags: str) -> RunnerConfig:
    return RunnerConfig.from_options(PipelineOptions(list(flags)))


LOCAL = ("--ray_workers_max=1", "--ray_object_store_mb=100")


def test_a_run_alone_opens_a_session_and_ends_it() -> None:
    with use_session(config(*LOCAL), PackedCode()) as run:
        assert ray.is_initialized() and run.session.fixed
        assert run.code.runtime_env == {}
    assert not ray.is_initialized()


def test_runs_in_one_scope_share_a_session_and_the_warm_workers_of_equal_code() -> None:
    with share_session():
        pids = []
        for packed in (PackedCode(), PackedCode(), PackedCode(main_session=b"")):
            with use_session(config(*LOCAL), packed) as run:
                pools = run.pools(config(*LOCAL))
                pools.warm()
                (worker,) = pools.all()
                pids.append(ray.get(worker.actor.pid.remote()))
            assert current_session() is run.session
        assert pids[0] == pids[1] != pids[2], "other code gets workers of its own"
    assert not ray.is_initialized()


def test_a_ray_that_the_caller_started_is_used_and_left(cluster: Cluster, with_token: None) -> None:
    with joined(cluster.address):
        with use_session(config(), PackedCode()) as run:
            assert not run.session.fixed
            assert run.code.runtime_env["py_modules"], "its workers lack the runner"
        assert ray.is_initialized()


def test_a_joined_session_is_told_what_went_wrong_before_any_work(cluster: Cluster, remote: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError, match="there is no token for --ray_address"):
        RaySession.connect(config(f"--ray_address={cluster.address}"))
    assert not ray.is_initialized()


def test_a_session_serves_what_it_has_and_no_other_cluster(tmp_path: Path) -> None:
    with RaySession.connect(config(*LOCAL)) as session:
        assert session.serves(config(*LOCAL))
        assert not session.serves(config("--ray_address=10.0.0.1:6379"))
        assert not session.serves(config(*LOCAL, f"--ray_spill_dir={tmp_path}"))
        assert not session.serves(config("--ray_workers_max=1", "--ray_object_store_mb=200"))
        assert session.resolve(config()).workers_max >= 1
