"""datatrove's MinHash pipeline on Parquet files, run in the rivals' environment: its four stages, two workers.

    python benchmarks/dedup_job_arm.py INPUT_FOLDER WORK_FOLDER TOKENIZER

TOKENIZER `default` is datatrove's own for English; `spaces` puts Python's str.split in its place, which is faster than
any that it has.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

WORKERS = 2


class _Spaces:
    def word_tokenize(self, text: str) -> list[str]:
        return text.split()


def main() -> int:
    """Run the pipeline; the kept documents are written as Parquet below the work folder."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.hashing import HashConfig

    source, work, tokenizer = sys.argv[1:]
    config = MinhashConfig(
        n_grams=5, num_buckets=32, hashes_per_bucket=8, seed=1, hash_config=HashConfig(precision=64, hash_fc="xxhash")
    )
    place = {name: str(Path(work) / name) for name in ("signatures", "buckets", "remove", "kept", "logs")}

    def reader() -> Any:
        return ParquetReader(source, text_key="text", id_key="id")

    signature = MinhashDedupSignature(output_folder=place["signatures"], config=config)
    if tokenizer == "spaces":
        signature.word_tokenizer = _Spaces()
    stages = [
        ([reader(), signature], WORKERS),
        (
            [MinhashDedupBuckets(input_folder=place["signatures"], output_folder=place["buckets"], config=config)],
            config.num_buckets,
        ),
        (
            [MinhashDedupCluster(input_folder=place["buckets"], output_folder=place["remove"], config=config)],
            1,
        ),
        ([reader(), MinhashDedupFilter(input_folder=place["remove"]), ParquetWriter(place["kept"])], WORKERS),
    ]
    for number, (steps, tasks) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=steps, tasks=tasks, workers=min(tasks, WORKERS), logging_dir=f"{place['logs']}/{number}"
        ).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
