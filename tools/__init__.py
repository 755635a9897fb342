"""What developers run by hand or by make; nothing here is installed with the service."""
