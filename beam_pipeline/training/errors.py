"""The error of data that cannot be trained on as asked."""

from __future__ import annotations


class TrainingDataError(ValueError):
    """A published set cannot give what a Dataset was asked for; the message says what to change."""
