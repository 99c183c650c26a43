"""A configuration guessed from what inspection finds: `curate PATH` without a YAML."""
