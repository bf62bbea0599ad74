"""`imageapi`, with less patience than it has, so that tests need not wait."""

from imageapi.api import limits, patience
from imageapi.cli import main

patience.HEAD_SECONDS = 1
patience.UNREAD_SECONDS = 2
patience.LINGER_SECONDS = 1
limits.BODY_SECONDS = 1

if __name__ == "__main__":
    main()
