"""A report of a journal: one HTML page, and the same facts as CSV and JSON."""
