"""What recordings are, told from headers, footers and metadata alone: the command `inspect`."""
