"""PostgreSQL: connections, tables, and the queries and changes on them. Only this room uses SQL."""
