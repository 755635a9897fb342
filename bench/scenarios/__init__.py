"""What is measured, one module for each kind of question; each answers with a ``Section``."""
