"""Headless Chromium: is the page what it should be, and what does it look like?"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_WIDTH = 1400
_COLOURS = 128
"""Of the picture: so that it stays small in the repository."""


class PageFault(Exception):
    """A page that a browser shows otherwise than it was meant."""


def check(page: Path, panels: list[str]) -> int:
    """Open the page; returns its height in pixels. Raises PageFault where a panel is missing, or it complains."""
    shown = _chromium(page, "--dump-dom", "--enable-logging=stderr", "--v=0")
    if "CONSOLE" in shown.stderr:
        raise PageFault(f"the browser complains of {page}: {shown.stderr[-1000:]}")
    seen = re.findall(r'data-panel="([^"]*)"', shown.stdout)
    if seen != panels:
        raise PageFault(f"{page} shows the panels {seen}, not {panels}")
    # the height of a copy that tells it in its title by a script
    source = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.html"
        script = "<script>document.title = document.documentElement.scrollHeight</script></body>"
        probe.write_text(source.replace("</body>", script), encoding="utf-8")
        found = re.search(r"<title>(\d+)</title>", _chromium(probe, "--dump-dom").stdout)
    if found is None:
        raise PageFault(f"the browser does not tell how high {page} is")
    return int(found[1])


def picture(page: Path, height: int, target: Path) -> None:
    """Take a picture of the page, `height` pixels from its top."""
    from PIL import Image

    target.parent.mkdir(parents=True, exist_ok=True)
    _chromium(page, f"--screenshot={target.resolve()}", height=height)
    with Image.open(target) as taken:
        few = taken.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
    few.save(target, optimize=True)


def _chromium(page: Path, *flags: str, height: int = 900) -> subprocess.CompletedProcess[str]:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise PageFault(f"none of {', '.join(BROWSERS)} is installed; apt-get install chromium")
    with tempfile.TemporaryDirectory() as profile:
        common = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
        common += [f"--user-data-dir={profile}", f"--window-size={_WIDTH},{height}"]
        words = [browser, *common, *flags, page.resolve().as_uri()]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
