"""Stages that turn raw robot recordings into curated, training-ready episodes."""

import logging

_NOISE = ("apitools not found", "Resource module is not available")


def _is_news(record: logging.LogRecord) -> bool:
    """False for two warnings of Beam about BigQuery and memory metrics, of which this job uses neither."""
    return not str(record.msg).startswith(_NOISE)


logging.getLogger().addFilter(_is_news)
