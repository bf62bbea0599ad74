"""What an image is: its schema, and its record as the exact text that clients are sent."""
