"""Verifies tokens: from an ``Authorization`` header to abilities. Uses no HTTP framework."""
