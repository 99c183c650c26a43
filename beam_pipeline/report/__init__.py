"""The report: one self-contained HTML page of a run, drawn from its tables and from small pictures kept beside them."""
