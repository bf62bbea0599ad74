"""What people do with albums: each change of theirs one transaction and one event."""
