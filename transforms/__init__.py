"""Stages that turn raw robot recordings into curated, training-ready episodes."""
