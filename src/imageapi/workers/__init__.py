"""Processes of our own: one side asks, the other does the jobs."""
