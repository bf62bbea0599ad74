"""Reads what a picture's file contains: its format, its size, its EXIF data and its pixels."""
