"""The driver: forms bundles of a planned pipeline, gives them to workers, commits what returns, recovers what fails."""
