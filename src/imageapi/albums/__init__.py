"""What people do with albums: each change is one transaction and one event."""
