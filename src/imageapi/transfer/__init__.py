"""Albums as files: import and export."""
