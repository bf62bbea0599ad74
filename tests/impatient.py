"""`imageapi`, with less patience than it has, so that tests need not wait."""

from imageapi.api import limits, protocol
from imageapi.cli import main

protocol.HEAD_SECONDS = 1
protocol.UNREAD_SECONDS = 2
protocol.LINGER_SECONDS = 1
limits.BODY_SECONDS = 1

if __name__ == "__main__":
    main()
