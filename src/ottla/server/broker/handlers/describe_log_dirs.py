"""DescribeLogDirs (key 35), versions 1-5: what lies in each log directory (KIP-113).

Version notes. 2: flexible. 3: top-level error code. 4: total and usable bytes of the volume (KIP-827). 5: cordoned
directories (KIP-1066).

A directory that failed is listed with KAFKA_STORAGE_ERROR.  The lag of a replica in its own directory is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
