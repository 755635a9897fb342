"""The hot path: from a presented secret to one verdict, in one straight line without branches back."""
