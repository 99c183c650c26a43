"""Each reader against the bare library of its format, on generated data, one core, in turns.

    python -m benchmarks.readers [--megabytes 1000] [--formats rlds lerobot hdf5 mcap rosbag1 video] [--repeats 3]
                                 [--tensorflow PYTHON] [--json FILE] [--check]

Both sides run on the same single core with one thread each, from a warm page cache, A B A B in one run after a pass of
each that is not counted. A ratio is the rival's CPU seconds over ours, pair by pair, and the median is reported; CPU
seconds are those of all threads, for tf.data and for our video decoder of their own process too, so that other load on
the machine does not tell. Our side is the whole way from a path to Recordings, planning included.

- RLDS: both verify both checksums and parse every feature; images stay encoded on both. Ours also hashes the images,
  restores dtypes, checks flags and metadata, and builds Arrow columns. tf.data runs its fastest of six ways. "To
  columns" is our part that does no more than tf.data: checksums, parsing, columns of the right shape and dtype. The bar
  holds for both rows.
- LeRobot: bare is `pyarrow.parquet.read_table` of every file.
- HDF5: bare is `[()]` of every dataset by name; ours hashes images instead of keeping them.
- MCAP: the rival decodes messages and makes nothing of them, by the cheapest of its documented usages; ours makes Arrow
  streams, checks CRCs, joins topics. Each generated file is a pair of passes; with ROBOT_DATA set, PrismaX's recording
  is read too, twenty times a pass.
- ROS 1 bags: rosbags decodes every message and makes nothing of it, by the cheaper of its two documented readers; files
  and passes as for MCAP, and the bag of the KUKA arm.
- Video: both decode every frame. Bare takes the mean of `frame.to_ndarray(format="gray")`; ours takes mean, deviation,
  clipping and motion, in a child process. Two cheaper loops are printed beside it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from benchmarks import corpora, mcap_arms, mcap_corpus, reader_arms, rosbag_arms, rosbag_corpus
from benchmarks.corpora import Corpus
from benchmarks.harness import Bar, Report, Row, finish, package_versions, parser
from benchmarks.reader_arms import Arm, Cost
from transforms.media import MediaDecoder

ENVIRONMENT = Path(".venv-tensorflow/bin/python")
CAMERAS = ("image_0", "image_1")
PRISMAX = Path("mcap_prismax/100.mcap")
KUKA = Path("ros1/kuka_honeypot_test.bag")
PASSES = 20
BARS = {"rlds": 1.0, "lerobot": 0.5, "hdf5": 0.9, "mcap": 5.0, "rosbag1": 3.0, "video": 0.95}
Pairs = list[tuple[Cost, Cost]]


def in_turns(ours: Arm, bare: Arm, repeats: int) -> Pairs:
    """`repeats` pairs of passes, after one of each that is not counted."""
    ours(), bare()
    return [(ours(), bare()) for _ in range(repeats)]


def _median(pairs: Pairs, of: Callable[[Cost, Cost], float]) -> float:
    return statistics.median(of(ours, bare) for ours, bare in pairs)


def compare(name: str, corpus: Corpus, pairs: Pairs, rival: str, megabytes: float | None = None) -> list[Row]:
    """Size, both sides' rates and the ratio of their CPU seconds; `megabytes` of one pass, else the whole corpus."""
    size = megabytes or corpus.megabytes
    ours_s, bare_s = _median(pairs, lambda a, _: a.cpu_s), _median(pairs, lambda _, b: b.cpu_s)
    wall = _median(pairs, lambda a, b: b.wall_s / a.wall_s)
    held = f"{corpus.episodes} episodes, {corpus.steps} steps, {len(corpus.files)} files"
    return [
        Row(f"{name}: size", corpus.megabytes, "MB", held),
        Row(f"{name}: ours", size / ours_s, "MB/s", f"median of {len(pairs)} passes, {ours_s:.3f} CPU s each"),
        Row(f"{name}: {rival}", size / bare_s, "MB/s", f"{bare_s:.3f} CPU s each"),
        Row(f"{name}: ratio", _median(pairs, lambda a, b: b.cpu_s / a.cpu_s), "x", f"{wall:.3g} by wall time"),
    ]


def check_same(name: str, pairs: Pairs) -> None:
    """Raise where the two sides did not get to see the same number of steps, rows or frames."""
    for ours, bare in pairs:
        if ours.units != bare.units:
            raise RuntimeError(f"{name}: ours saw {ours.units}, bare {bare.units}; the sides did different work")


def rlds_rows(folder: Path, megabytes: float, repeats: int, interpreter: Path) -> list[Row]:
    """Numbers and texts alone, then with two cameras of about 10 KB an image."""
    rows: list[Row] = []
    numeric = {**corpora.ROBOT, **corpora.TOUCH}
    for name, shapes, cameras, steps in (("numeric", numeric, (), 400), ("images", corpora.ROBOT, CAMERAS, 40)):
        label = f"rlds {name}"
        if not interpreter.is_file():
            reason = f"{interpreter} is not there: `make tensorflow` creates it, or pass --tensorflow PYTHON"
            rows.append(Row(f"{label}: ratio", None, "x", f"skipped: {reason}"))
            continue
        with tempfile.TemporaryDirectory(dir=folder) as place:
            corpus = corpora.write_rlds(Path(place) / "rlds", megabytes, shapes, cameras, steps)
            with reader_arms.tensorflow(interpreter, corpus, shapes, cameras) as rival:
                way = rival.choose(min(2, len(corpus.files)))
                for what, ours in (
                    (label, reader_arms.rlds_arm(corpus)),
                    (f"{label} to columns", reader_arms.rlds_columns_arm(corpus)),
                ):
                    pairs = in_turns(ours, rival.arm, repeats)
                    if any(cost.units != corpus.steps for cost, _ in pairs):
                        raise RuntimeError(f"{what}: ours saw {pairs[0][0].units} steps of {corpus.steps}")
                    if any(bare.units != corpus.episodes for _, bare in pairs):
                        raise RuntimeError(f"{what}: tf.data saw {pairs[0][1].units} records of {corpus.episodes}")
                    rows += compare(what, corpus, pairs, f"tf.data {rival.version}, {way}")
    return rows


def lerobot_rows(folder: Path, megabytes: float, repeats: int) -> list[Row]:
    """A row group an episode, as LeRobot records, and one a file, as its conversion writes."""
    rows: list[Row] = []
    for name, group_per_episode in (("group per episode", True), ("group per file", False)):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            corpus = corpora.write_lerobot(Path(place) / "lerobot", megabytes, group_per_episode)
            pairs = in_turns(reader_arms.lerobot_arm(corpus), reader_arms.parquet_arm(corpus), repeats)
            check_same(name, pairs)
            rows += compare(f"lerobot {name}", corpus, pairs, "pyarrow.parquet.read_table")
    return rows


def hdf5_rows(folder: Path, megabytes: float, repeats: int) -> list[Row]:
    """Isaac Lab's datasets alone, then with two cameras of 84x84 pixels."""
    rows: list[Row] = []
    for name, cameras in (("numeric", ()), ("images", CAMERAS)):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            corpus = corpora.write_isaac(Path(place) / "isaac", megabytes, cameras)
            pairs = in_turns(reader_arms.isaac_arm(corpus), reader_arms.h5py_arm(corpus, cameras), repeats)
            check_same(name, pairs)
            rows += compare(f"hdf5 {name}", corpus, pairs, "h5py [()]")
    return rows


def mcap_rows(folder: Path, megabytes: float, repeats: int) -> list[Row]:
    """JointStates of four topics, generated, file by file in turns; then the recording of PrismaX where it is there."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        corpus = mcap_corpus.write_mcap(Path(place) / "mcap", megabytes)
        way = mcap_arms.fastest_way(corpus.files[0])
        pairs = [(mcap_arms.mcap_arm(path)(), mcap_arms.support_arm(path, way)()) for path in corpus.files]
        rows = _messages_compared("mcap", corpus, pairs, f"mcap-ros2-support {way}", 1 / len(corpus.files))
    recorded = Path(os.environ.get("ROBOT_DATA", "")) / PRISMAX
    if not os.environ.get("ROBOT_DATA") or not recorded.is_file():
        return [*rows, Row("mcap prismax: ratio", None, "x", "skipped: ROBOT_DATA names no folder that holds it")]
    way = mcap_arms.fastest_way(recorded)
    ours, rival = (mcap_arms.mcap_arm(recorded, PASSES), mcap_arms.support_arm(recorded, way, PASSES))
    one = Corpus(recorded.parent, (recorded,), 1, 7483)
    pairs = in_turns(ours, rival, repeats)
    return rows + _messages_compared("mcap prismax", one, pairs, f"mcap-ros2-support {way}", PASSES)


def rosbag_rows(folder: Path, megabytes: float, repeats: int) -> list[Row]:
    """JointStates of four topics, generated, file by file in turns; then the recording of the KUKA arm."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        corpus = rosbag_corpus.write_rosbags(Path(place) / "bags", megabytes)
        way = rosbag_arms.fastest_way(corpus.files[0])
        pairs = [(rosbag_arms.rosbag_arm(path)(), rosbag_arms.rosbags_arm(path, way)()) for path in corpus.files]
        rows = _messages_compared("rosbag1", corpus, pairs, f"rosbags {way}", 1 / len(corpus.files))
    recorded = Path(os.environ.get("ROBOT_DATA", "")) / KUKA
    if not os.environ.get("ROBOT_DATA") or not recorded.is_file():
        return [*rows, Row("rosbag1 kuka: ratio", None, "x", "skipped: ROBOT_DATA names no folder that holds it")]
    way = rosbag_arms.fastest_way(recorded)
    ours, rival = rosbag_arms.rosbag_arm(recorded, PASSES), rosbag_arms.rosbags_arm(recorded, way, PASSES)
    one = Corpus(recorded.parent, (recorded,), 1, 4101)
    return rows + _messages_compared("rosbag1 kuka", one, in_turns(ours, rival, repeats), f"rosbags {way}", PASSES)


def _messages_compared(name: str, corpus: Corpus, pairs: Pairs, way: str, share: float) -> list[Row]:
    """`share` of the corpus is one pass of a pair."""
    check_same(name, pairs)
    rows = compare(name, corpus, pairs, way, corpus.megabytes * share)
    for what, cpu_s in (
        ("ours", _median(pairs, lambda a, _: a.cpu_s)),
        ("rival", _median(pairs, lambda _, b: b.cpu_s)),
    ):
        rows.append(Row(f"{name}: {what}", pairs[0][0].units / cpu_s, "messages/s", f"{pairs[0][0].units} a pass"))
    return rows


def video_rows(folder: Path, megabytes: float) -> list[Row]:
    """File by file in turns: each video is a pass, and every video is read once by each side."""
    with tempfile.TemporaryDirectory(dir=folder) as place, MediaDecoder() as decoder:
        corpus = corpora.write_videos(Path(place) / "video", megabytes)
        pairs: dict[str, Pairs] = {loop: [] for loop in reader_arms.LOOPS}
        reader_arms.decoder_arm(corpus.files[0], decoder)()
        for index, path in enumerate(corpus.files):
            loops = list(reader_arms.LOOPS) if index < 2 * len(reader_arms.LOOPS) else ["gray"]
            ours = reader_arms.decoder_arm(path, decoder)()
            for loop in loops:
                pairs[loop].append((ours, reader_arms.pyav_arm(path, loop)()))
        for loop in pairs:
            check_same(f"video {loop}", pairs[loop])
        size = corpus.megabytes / len(corpus.files)
        rows = compare("video", corpus, pairs["gray"], "bare PyAV, mean of gray", size)
    for loop, what in (("plane", "mean of the luma plane"), ("untouched", "no pixel touched")):
        ratio = _median(pairs[loop], lambda a, b: b.cpu_s / a.cpu_s)
        rows.append(
            Row(f"video: ratio, {what}", ratio, "x", f"no bar: a loop that does less, {len(pairs[loop])} files")
        )
    return rows


def measure(formats: Sequence[str], megabytes: float, repeats: int, interpreter: Path) -> Report:
    """Every asked format in turn, its corpus deleted before the next is written."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        if "rlds" in formats:
            rows += rlds_rows(folder, megabytes, repeats, interpreter)
        if "lerobot" in formats:
            rows += lerobot_rows(folder, megabytes, repeats)
        if "hdf5" in formats:
            rows += hdf5_rows(folder, megabytes, repeats)
        if "mcap" in formats:
            rows += mcap_rows(folder, megabytes, repeats)
        if "rosbag1" in formats:
            rows += rosbag_rows(folder, megabytes, repeats)
        if "video" in formats:
            rows += video_rows(folder, megabytes)
    bars = [
        Bar(row.name, "min", limit)
        for name, limit in BARS.items()
        for row in rows
        if row.name.startswith(name) and row.name.endswith(": ratio")
    ]
    versions = package_versions(
        "numpy", "pyarrow", "h5py", "av", "google-crc32c", "xxhash", "mcap", "mcap-ros2-support", "rosbags"
    )
    return Report("Readers against bare libraries, one core, one thread", rows, bars, versions)


def main() -> int:
    """Pin to one core, measure, print, judge."""
    arguments = parser((__doc__ or "").partition("\n")[0])
    arguments.add_argument("--megabytes", type=float, default=1000, help="size of each corpus")
    arguments.add_argument("--formats", nargs="+", choices=BARS, default=list(BARS))
    arguments.add_argument("--repeats", type=int, default=3, help="pairs of passes over each corpus")
    arguments.add_argument("--tensorflow", type=Path, default=ENVIRONMENT, metavar="PYTHON")
    options = arguments.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    report = measure(options.formats, options.megabytes, options.repeats, options.tensorflow)
    return finish(report, options.json, options.check)


if __name__ == "__main__":
    sys.exit(main())
