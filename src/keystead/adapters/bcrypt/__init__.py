"""bcrypt in bounded lanes off the event loop."""
