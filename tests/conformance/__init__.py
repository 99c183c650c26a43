"""Beam's own tests, which its wheel ships, run on any PipelineRunner class."""
