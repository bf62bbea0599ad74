"""Tables, connections, the embedded server, and the repository. Alone knows SQL."""
