"""What ocim keeps, as a whole: df, prune, check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocirt.manager.cli.here import confirmed, site, text, texts
from ocirt.manager.cli.human import size
from ocirt.manager.cli.images import pairs
from ocirt.manager.cli.output import line, listing

if TYPE_CHECKING:
    from ocirt.manager.cli.grammar import Value

_DF = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
