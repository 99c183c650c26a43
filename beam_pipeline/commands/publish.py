"""`publish`: a published output folder to an object store, and `--fetch` the other way.

Exit status: 0 done (also where the store holds the same already), 1 it could not be done, 2 bad usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from beam_pipeline.commands.command import BAD_USAGE, DONE, FAILED, error_console, output_console, print_plain
from beam_pipeline.commands.job import send
from beam_pipeline.output_folder import OutputError
from beam_pipeline.store_output import fetch_from_store
from transforms.stores.urls import SCHEMES, is_url
from transforms.unreadable import Unreadable

USAGE = (
    "usage: python -m beam_pipeline publish DIR URL\n"
    "       python -m beam_pipeline publish --fetch URL DIR [--manifest N]\n"
    "  DIR         the --output of `curate` or `decide`\n"
    "  URL         gs://BUCKET/PLACE or s3://BUCKET/PLACE: files under names made of their content, then a manifest\n"
    "              that is created only if no other run was quicker; what the store holds already is not sent again\n"
    "  --fetch     bring what is published at URL into a new folder DIR, which every other command reads\n"
    "  --manifest  with --fetch: that of an earlier run, by its number, in place of the newest\n"
    "exit status: 0 done, 1 it could not be done and nothing was published, 2 bad usage"
)


def run(arguments: Sequence[str]) -> int:
    """Publish or fetch; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline publish", usage=argparse.SUPPRESS, add_help=False)
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--manifest", type=int)
    parser.add_argument("places", nargs="*")
    console, errors = output_console(), error_console()
    try:
        known = parser.parse_args(arguments)
    except SystemExit:  # argparse has said why and exits by itself
        print_plain(errors, USAGE)
        return BAD_USAGE
    if len(known.places) != 2:
        print_plain(errors, f"error: publish takes two places, {len(known.places)} are given\n{USAGE}")
        return BAD_USAGE
    if known.manifest is not None and not known.fetch:
        print_plain(errors, f"error: --manifest goes with --fetch; the newest run of DIR is published\n{USAGE}")
        return BAD_USAGE
    url, folder = known.places if known.fetch else known.places[::-1]
    if not is_url(url) or is_url(folder):
        known_schemes = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        print_plain(errors, f"error: {url} is no URL of a store; give {known_schemes}\n{USAGE}")
        return BAD_USAGE
    try:
        if known.fetch:
            manifest = fetch_from_store(url, Path(folder), known.manifest)
            print_plain(console, f"{folder}: {len(manifest.files)} files of {url}, its manifest {manifest.number}")
            return DONE
    except (OutputError, Unreadable, ModuleNotFoundError) as error:
        print_plain(errors, f"error: {error}")
        return FAILED
    return send(Path(folder), url, console, errors)
