"""Words everyone shares: ids, clock, errors, paging, secrets and changes. Standard library only."""
