"""What goes out to other services over HTTP."""
