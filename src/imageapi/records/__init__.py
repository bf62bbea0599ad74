"""The schema of an image, and its record: the exact text that is sent to clients."""
