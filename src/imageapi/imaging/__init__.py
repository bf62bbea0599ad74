"""What a photograph is, read from its bytes."""
