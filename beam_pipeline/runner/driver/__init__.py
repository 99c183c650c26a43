"""The driver: it forms bundles of a planned pipeline, gives them to workers, commits what comes back, recovers what fails."""
