"""Where pictures are stored: a folder, or a bucket of S3, Google Cloud Storage or Azure."""
