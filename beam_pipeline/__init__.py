"""The curation job: configuration in, curated episodes out."""
