"""A picture of a report's top, taken by headless Chromium.

python -m examples.picture_report OUTPUT -o PICTURE.png [--width 1280] [--height 1500] [--dark]
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 128
"""Of the picture: so that it stays small in the repository."""


def take(browser: str, page: Path, picture: Path, width: int, height: int, dark: bool) -> None:
    """Take the picture; raises CalledProcessError where the browser fails."""
    with tempfile.TemporaryDirectory() as profile:
        flags = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            f"--screenshot={picture.resolve()}",
        )
        subprocess.run([browser, *flags, page.resolve().as_uri()], check=True, capture_output=True, timeout=120)
    with Image.open(picture) as taken:
        few = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(picture, optimize=True)


def main() -> int:
    """Take one picture."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("output", type=Path)
    arguments.add_argument("-o", "--picture", type=Path, required=True)
    arguments.add_argument("--width", type=int, default=1280)
    arguments.add_argument("--height", type=int, default=1500)
    arguments.add_argument("--dark", action="store_true")
    given = arguments.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        arguments.error(f"none of {', '.join(BROWSERS)} is installed; apt-get install chromium")
    page = given.output / "report.html"
    if not page.exists():
        arguments.error(f"{page} does not exist; curate into {given.output} first")
    take(browser, page, given.picture, given.width, given.height, given.dark)
    return 0


if __name__ == "__main__":
    sys.exit(main())
