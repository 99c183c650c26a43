"""`dedup`: which rows of Parquet files are copies of one another, and which of them stay.

Exit status: 0 done, 1 the run failed (with its traceback), 2 bad usage or input, 3 a guardrail: nothing was published.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from beam_pipeline.commands.command import (
    BAD_USAGE,
    DONE,
    GATE_FAILED,
    UsageError,
    error_console,
    output_console,
    print_plain,
)
from beam_pipeline.deduplication.guardrails import Guardrails
from beam_pipeline.deduplication.job import DedupConfig, GuardrailsBroken, run_dedup
from beam_pipeline.deduplication.published import DedupSummary
from beam_pipeline.deduplication.tables import RepeatedId
from beam_pipeline.output_folder import OutputError
from beam_pipeline.preflight import UnfitRunner, check_runner
from beam_pipeline.runner import status_of_interrupted
from beam_pipeline.runner.executor import DEFAULT_RUNNER
from transforms.deduplication.parquet_documents import ColumnError, DocumentColumns
from transforms.deduplication.semantic import SemanticParams
from transforms.deduplication.similar_documents import LshParams
from transforms.deduplication.text_documents import TextParams

USAGE = (
    "usage: python -m beam_pipeline dedup --input FILES... --output DIR (--text COLUMN [--id COLUMN] |\n"
    "       --vector COLUMN --id COLUMN)\n"
    "       [--source COLUMN] [--quality COLUMN] [--published COLUMN] [--threshold NUMBER] [--ngram 5] [--bands 32]\n"
    "       [--rows 8] [--seed 1] [--max-cluster 100000] [--max-removed 0.9] [--runner NAME] [--device cpu]\n"
    "       [--clusters NUMBER] [--index DIR] [any Beam option]\n"
    "  --input      Parquet files, folders of them, or patterns\n"
    "  --output     folder for kept, duplicates, clusters and edges (Parquet), summary.json and manifest.json\n"
    "  --text       column of the texts that are compared\n"
    "  --vector     column of the vectors that are compared, lists of numbers, in place of texts\n"
    "  --id         column of unique ids (default: ids from file, row and content)\n"
    "  --source     column that says where a row is from: each source is counted and guarded by itself\n"
    "  --quality    column of numbers: of copies, the one of highest quality stays\n"
    "  --published  column of booleans: a published row stays before any other\n"
    "  --threshold  least Jaccard similarity of two texts' word n-grams (default 0.7), or cosine of vectors (0.95)\n"
    "  --ngram      words in a shingle\n"
    "  --bands, --rows  a pair of Jaccard J is found with probability 1 - (1 - J^rows)^bands\n"
    "  --clusters   clusters of vectors (default: by their count); more make a large index cheaper, and find less\n"
    "  --max-cluster, --max-removed  largest cluster, and largest fraction dropped of a source, that is published\n"
    "  --index      folder that grows night by night: rows are compared with those of earlier nights, which stay\n"
    "  --runner     DirectRunner (in process, default), RayRunner (on Ray), or another\n"
    "  --device     cpu or cuda: what computes signatures and products\n"
    "exit status: 0 done, 1 the run failed, 2 bad usage or input, 3 a guardrail was passed, nothing published,\n"
    "             130 and 143 interrupted by Ctrl-C and SIGTERM, nothing published"
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline dedup", add_help=False, allow_abbrev=False)
    parser.add_argument("--input", required=True, nargs="+")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--text")
    parser.add_argument("--vector")
    parser.add_argument("--index", type=Path)
    for name in ("id", "source", "quality", "published"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--threshold", type=float)
    parser.add_argument("--clusters", type=int)
    parser.add_argument("--ngram", type=int, default=TextParams.ngram)
    for name in ("bands", "rows", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(LshParams, name))
    parser.add_argument("--max-cluster", type=int, default=Guardrails.max_cluster)
    parser.add_argument("--max-removed", type=float, default=Guardrails.max_removed)
    parser.add_argument("--runner", default=DEFAULT_RUNNER)
    parser.add_argument("--device", choices=("cpu", "cuda"), default=LshParams.device)
    return parser


def run(arguments: Sequence[str]) -> int:
    """Search for duplicates and publish; returns the exit status."""
    console, errors = output_console(), error_console()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        read, rest = _parser().parse_known_args(arguments)
        of_texts = read.vector is None
        of_own = read.threshold is not None
        threshold = read.threshold if of_own and of_texts else LshParams.threshold
        cosine = read.threshold if of_own and not of_texts else SemanticParams.cosine
        config = DedupConfig(
            columns=DocumentColumns(read.text, read.id, read.source, read.quality, read.published, read.vector),
            semantic=SemanticParams(cosine, clusters=read.clusters, device=read.device),
            text=TextParams(read.ngram),
            lsh=LshParams(threshold, read.bands, read.rows, read.seed, device=read.device),
            guardrails=Guardrails(read.max_cluster, read.max_removed),
        )
        options = _beam_options(rest)
        check_runner(read.runner, options)
        summary = run_dedup(read.input, read.output, config, read.runner, options, read.index)
    except SystemExit:  # argparse has said why
        return BAD_USAGE
    except (UsageError, ColumnError, RepeatedId, OutputError, UnfitRunner, ValueError) as error:
        errors.print(f"error: {error}", markup=False)
        return BAD_USAGE
    except GuardrailsBroken as error:
        errors.print(f"guardrail, nothing was published: {error}", markup=False)
        return GATE_FAILED
    except KeyboardInterrupt as error:
        errors.print("interrupted; nothing was published", markup=False)
        return status_of_interrupted(error)
    tell(console, summary, read.output)
    return DONE


def _beam_options(words: Sequence[str]) -> PipelineOptions:
    """The rest of a command line as Beam's options; raises UsageError for a word that is none of them."""
    options = PipelineOptions(list(words))
    known = set(options.get_all_options(drop_default=False))
    for word in words:
        flag = word.split("=")[0]
        if flag.startswith("-") and flag.lstrip("-") not in known:
            raise UsageError(f"unknown flag {flag}; see --help")
    return options


def tell(console: Console, summary: DedupSummary, output: Path) -> None:
    """What was found, in a few lines."""
    candidates = f" of {summary.candidates} candidates" if summary.candidates else ""
    print_plain(
        console,
        f"{summary.input} documents: {summary.kept} kept, {summary.exact} exact copies, {summary.near} near copies\n"
        f"{summary.clusters} clusters, the largest of {summary.largest_cluster}; {summary.edges} verified pairs"
        + candidates
        + (f"; {summary.without_text} documents without text" if summary.without_text else "")
        + (f"; {summary.without_vector} without a vector" if summary.without_vector else ""),
    )
    for source in summary.sources:
        if source.source is not None:
            print_plain(console, f"  {source.source}: {source.input} documents, {source.kept} kept")
    for name in ("kept", "duplicates", "clusters", "edges"):
        print_plain(console, f"{name}: {output / name}.parquet")
