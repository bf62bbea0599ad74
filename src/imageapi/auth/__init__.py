"""From the ``Authorization`` header to an abilities map. Knows no HTTP framework."""
