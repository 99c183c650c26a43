"""The page of codes as Markdown: `python -m beam_pipeline.inspection.page > docs/inspect.md`."""

from __future__ import annotations

from beam_pipeline.inspection.codes import CODES
from beam_pipeline.inspection.lerobot_footers import READ_FOOTERS
from beam_pipeline.inspection.video_headers import READ_FILES

_HEAD = f"""# Inspect

    python -m beam_pipeline inspect PATH... [--json]

says of every data set below each path what it is, by content: format, episodes, streams with shapes and rates,
cameras with what their files are, instructions, duration, and each disagreement between metadata and files under a
stable code. It reads headers, footers and metadata alone, so that its time does not depend on how long recordings are:

| format | what is read |
|---|---|
| `lerobot` | `meta/`; the number of rows in every data file's footer; whole footers (columns, widths, times) of \
{READ_FOOTERS[2]} v2 or {READ_FOOTERS[3]} v3 files, evenly spaced; headers of up to {READ_FILES} videos per camera |
| `rlds` | `features.json`, `dataset_info.json`, the header of every record; one whole record of each split, since no \
header states columns that `features.json` does not |
| `isaac_hdf5` | attributes and shapes of every demo, columns of a file's first one |
| `video` | headers of up to {READ_FILES} videos; of sidecars the head of a CSV, the footer of a Parquet, a JSON of at \
most 1 MiB |
| `aloha_hdf5` | attributes and shapes of every file |
| `mcap`, `rosbag1` | the summary at the end: topics, types, counts, duration; headers of videos beside |
| `rosbag2` | the table of topics, metadata.yaml |
| others | what planning tells: recordings, splits, what cannot be read |

Files of one format below a path are one data set; a folder that is a data set by itself (LeRobot, TFDS) is another.
`steps` and duration are those of the files on disk. With `--json` the same comes as one object: `datasets`, and the
numbers of `errors`, `warnings` and `notes`.

Exit status: 0 no errors (warnings do not fail), 1 errors were found, 2 bad usage.

## Codes

An error is something promised that is not there or cannot be read; a warning, two statements that disagree; a note,
something that nothing states. A code keeps its meaning and is never used for another. The last column names the check
or rule of [findings.md](findings.md) that a curation run records for the same.

| code | severity | meaning | what to do | check |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = []
    for code in CODES:
        keys = ", ".join(f"`{key}`" for key in code.keys if not key.startswith("inspect."))
        rows.append(f"| {code.code} | {code.severity} | {code.meaning} | {code.remedy} | {keys or '-'} |")
    return _HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(render(), end="")
