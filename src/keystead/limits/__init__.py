"""How much may be spent: plans, limits and quotas, decided exactly."""
