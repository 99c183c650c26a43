"""Airflow's side of DemoSift: it schedules the command `python -m beam_pipeline` and imports nothing of it."""
