"""Data-Juicer's MinHash operator for Ray on Parquet files, run in its own environment (`make juicer`): two CPUs.

    python benchmarks/dedup_job_juicer.py INPUT_FOLDER WORK_FOLDER

The operator is called as its executor calls it, without the executor's checks of a configuration. It does not verify.
"""

from __future__ import annotations

import sys
from pathlib import Path

WORKERS = 2


def main() -> int:
    """Run the operator; the documents that stay are written as Parquet below the work folder."""
    import ray
    from data_juicer.ops.deduplicator.ray_bts_minhash_deduplicator import RayBTSMinhashDeduplicator

    source, work = (Path(name).resolve() for name in sys.argv[1:])
    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    operator = RayBTSMinhashDeduplicator(
        tokenization="space",
        window_size=5,
        num_permutations=256,
        num_bands=32,
        num_rows_per_band=8,
        work_dir=str(work),
    )
    operator.run(ray.data.read_parquet(str(source))).write_parquet(str(work / "kept"))
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
