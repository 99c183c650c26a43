"""Beam's portable runners: worker processes for the job service on this machine, and how such a process boots."""
