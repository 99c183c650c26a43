"""What the command line adds to Beam's own options: paths and how to fail."""

from __future__ import annotations

import argparse
from typing import Literal, get_args

from apache_beam.options.pipeline_options import PipelineOptions

ReadWith = Literal["beam", "ray_data"]
"""What reads the recordings: the pipeline itself, or a Ray Data dataset that is executed before it runs."""
DEFAULT_READ: ReadWith = "beam"


class CurationOptions(PipelineOptions):
    """Paths of one curation run; everything else is in the YAML file."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--config", help="YAML file that names sources, embodiments and stage parameters")
        parser.add_argument("--output", help="folder that receives episodes, transitions, ledger and summary")
        parser.add_argument("--publish", help="gs:// or s3:// URL to which the output is published too")
        parser.add_argument(
            "--push_gateway",
            help="HOST:PORT of a Prometheus Pushgateway that is told how the run ended",
        )
        parser.add_argument("--push_set", help="name under which it is told (default: the output folder's)")
        parser.add_argument("--source", help="the one source to measure (evidence), by default all")
        parser.add_argument(
            "--fail_fast", action="store_true", help="raise the first error of a stage instead of quarantining"
        )
        parser.add_argument(
            "--read_with",
            choices=get_args(ReadWith),
            default=DEFAULT_READ,
            help="what reads the recordings: the pipeline itself, or Ray Data, with which it starts once all are read",
        )
