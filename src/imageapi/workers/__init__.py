"""Worker processes of our own: the parent starts and stops them, and sends them jobs."""
