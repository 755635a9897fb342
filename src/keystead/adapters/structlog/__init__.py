"""Where log lines go."""
