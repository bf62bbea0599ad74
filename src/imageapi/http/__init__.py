"""HTTP itself: middleware, parsing and errors. Nothing here knows a route."""
