"""Import and export of albums, and the upgrade of a database's records."""
