"""`export`: a curated folder in, a data set that training code loads out.

Exit status: 0 done, 1 the export cannot be made of this folder, 2 bad usage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from beam_pipeline.commands.command import DONE, FAILED, error_console, output_console, print_plain
from beam_pipeline.curated import CuratedSet
from beam_pipeline.exports.export import (
    IMAGE_CAMERAS,
    VIDEOS,
    ExportError,
    ExportOptions,
    Writer,
    staged,
)
from beam_pipeline.output_folder import OutputError

FORMATS = {
    "lerobot-v3": "lerobot_v3",
    "lerobot-v21-gr00t": "lerobot_gr00t",
    "rlds": "rlds",
    "keep-list": "keep_list",
}
"""Format -> module of `beam_pipeline.exports` whose `write` is a Writer, imported where it is asked for."""
USAGE = (
    "usage: python -m beam_pipeline export --format FORMAT --output TARGET [--source NAME]... CURATED_DIR\n"
    f"  --format         {', '.join(FORMATS)}\n"
    "  --output         folder to make; must be absent or empty\n"
    "  --source         only this source; may be repeated\n"
    "  --videos         reference (links to the curated folder's files), copy (whole files, default), remux (their\n"
    "                   packets in new mp4 files), reencode (the shown frames alone, encoded anew);\n"
    "                   rlds has pictures of them with reencode, and leaves them out otherwise\n"
    "  --image-cameras  image (pictures stay as they are stored, default) or video (they are encoded)\n"
    "  --canonical      with the columns that curation added in canonical units\n"
    "  --without        leave out this column or camera; may be repeated\n"
    "exit status: 0 done, 1 the export cannot be made of this folder, 2 bad usage"
)


def parse(arguments: Sequence[str]) -> tuple[str, Path, ExportOptions]:
    """Format, curated folder and options; exits with 2 as argparse does."""
    parser = argparse.ArgumentParser(prog="python -m beam_pipeline export", allow_abbrev=False)
    parser.add_argument("curated", metavar="CURATED_DIR", type=Path)
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--output", required=True, metavar="TARGET", type=Path)
    parser.add_argument("--source", action="append", default=[], metavar="NAME")
    parser.add_argument("--videos", choices=VIDEOS, default="copy")
    parser.add_argument("--image-cameras", choices=IMAGE_CAMERAS, default="image")
    parser.add_argument("--canonical", action="store_true")
    parser.add_argument("--without", action="append", default=[], metavar="COLUMN")
    known = parser.parse_args(list(arguments))
    options = ExportOptions(
        output=known.output,
        sources=tuple(known.source),
        videos=known.videos,
        image_cameras=known.image_cameras,
        canonical=known.canonical,
        without=tuple(known.without),
    )
    return known.format, known.curated, options


def run(arguments: Sequence[str]) -> int:
    """Write one export; returns the exit status."""
    console, errors = output_console(), error_console()
    name, folder, options = parse(arguments)
    write: Writer = import_module(f"beam_pipeline.exports.{FORMATS[name]}").write
    try:
        with staged(options.output) as partial:
            done = write(CuratedSet(folder), replace(options, output=partial))
    except (ExportError, OutputError) as error:
        errors.print(f"error: {error}", markup=False)
        return FAILED
    for note in done.notes:
        print_plain(console, note)
    print_plain(console, f"{name}: {done.n_episodes} episodes, {done.n_steps} steps")
    for place in done.folders:
        print_plain(console, f"  {options.output / place}")
    return DONE
