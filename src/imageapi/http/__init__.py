"""HTTP itself: the server's protocol, middleware, parsers and error responses. No routes."""
