"""Compare the service with what people would use instead: ``make bench``."""
