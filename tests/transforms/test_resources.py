"""The hint reaches the translated pipeline."""

import apache_beam as beam
import pytest

from transforms.resources import GpusHint


def test_the_hint_is_in_the_environment_of_the_translated_transform():
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([1]) | "Double" >> beam.Map(lambda x: 2 * x).with_resource_hints(gpus=0.5)
    components = pipeline.to_runner_api().components
    (double,) = (t for t in components.transforms.values() if t.unique_name == "Double")
    assert components.environments[double.environment_id].resource_hints[GpusHint.urn] == b"0.5"


def test_nested_hints_take_the_larger_and_nonsense_is_refused():
    assert GpusHint.get_merged_value(b"10.0", b"9.0") == b"10.0"
    with pytest.raises(ValueError, match=r"gpus is -1; need a finite number of GPUs, 0 or more"):
        GpusHint.parse(-1)
    with pytest.raises(ValueError, match=r"Resource hint gpus has invalid value lots"):
        beam.Map(str).with_resource_hints(gpus="lots")
