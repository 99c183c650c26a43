from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


@pytest.fixture(scope="session", autouse=True)
def tf() -> object:
    """TensorFlow with tensorflow-io; tests of this folder are skipped where the extra is not installed."""
    reason = "TensorFlow is not in this environment: `make test-tensorflow` has one of its own"
    tensorflow = pytest.importorskip("tensorflow", reason=reason)
    pytest.importorskip("tensorflow_io", reason=reason)
    return tensorflow
