"""The curation job: configuration in, curated episodes out."""

import transforms  # noqa: F401  its log filter must stand before Beam is imported
