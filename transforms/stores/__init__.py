"""Object stores: gs:// through gcsfs and s3:// through s3fs, as paths that the readers take for their own."""
