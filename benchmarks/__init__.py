"""The listing measured beside a naive version of itself: ``make bench``."""
