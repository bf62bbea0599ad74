"""The routes, what they depend on, and the OpenAPI document."""
